"""The colours of everything safelight draws: a darkroom, its red lamp, and paper."""

from __future__ import annotations

DARKROOM = "#171413"  # behind pictures: neutral, slightly warm, dark enough not to tint a judgement
SAFELIGHT = "#c23b22"  # the lamp: one accent, used sparingly
AMBER = "#e0a15a"  # lettering on DARKROOM
ASH = "#a89f97"  # quiet lettering on DARKROOM
PAPER = "#fbf9f5"  # behind curves and text
INK = "#241f1c"  # lettering and axes on PAPER
PENCIL = "#857b73"  # quiet lettering on PAPER
RAW = "#d98c5f"  # a curve before smoothing; SAFELIGHT after
BANDS = ("#5b1a12", "#b23a1e", "#d9772f", "#c9a13b", "#7d8a4a", "#3f7a74", "#3d5a80", "#6b4c6e")
EVENTS = {
    "intervention": "#8a5a12",
    "resume": PENCIL,
    "checkpoint": PENCIL,
    "fork": "#3d5a80",
    "verdict": SAFELIGHT,
    "remedy": "#3f7a74",
}
