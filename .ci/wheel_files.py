"""A wheel holds the tracked files of src/safelight, all of them and nothing else.

python .ci/wheel_files.py FILE.whl
"""

import subprocess
import sys
import zipfile

tracked = subprocess.run(
    ["git", "ls-files", "src/safelight"], capture_output=True, text=True, check=True
).stdout
wanted = {path.removeprefix("src/") for path in tracked.splitlines()}
with zipfile.ZipFile(sys.argv[1]) as wheel:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    names = [name for name in wheel.namelist() if ".dist-info/" in name]
assert {"safelight/py.typed", "safelight/explanations.toml", "safelight/data/digits.csv.gz"} <= held
assert any(name.endswith("licenses/NOTICE") for name in names), names
if held != wanted:
    sys.exit(f"only in the wheel: {sorted(held - wanted)}; missing: {sorted(wanted - held)}")
