"""The addresses of the page, and the server behind them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from safelight import recipes
from safelight.config import UserError, read_toml
from safelight.files import to_json
from safelight.render import tiles
from safelight.web import shell
from safelight.web.acts import ACTS, WITHOUT_RUN
from safelight.web.events import JOBS, Watcher
from safelight.web.jobs import Jobs
from safelight.web.model import ModelProcess, Superseded
from safelight.web.views import Views

FOREVER = "private, max-age=31536000, immutable"
OPERATIONS = ("describe", "watched", "draw", "specimens", "recipe")
Answer = Callable[[Request], Awaitable[Response]]


def application(folder: Path, *, read_only: bool = False) -> Starlette:
    """The page of a folder of runs, behind whatever door."""
    views, jobs, model = Views(folder), Jobs(folder), ModelProcess()
    watcher = Watcher(views, jobs)

    def reading(read: Callable[[Request], Any]) -> Answer:
        """An address that answers with JSON; read off the loop, as the disk may be slow."""

        async def answer(request: Request) -> Response:
            try:
                return _json(await run_in_threadpool(read, request))
            except (UserError, ValueError) as error:
                return _json({"mistake": str(error)}, 404)

        return answer

    def showing(draw: Callable[[Request], bytes]) -> Answer:
        """An address of a picture; with ?v= of its file it never changes."""

        async def answer(request: Request) -> Response:
            try:
                data = await run_in_threadpool(draw, request)
            except (UserError, ValueError) as error:
                return _json({"mistake": str(error)}, 404)
            kept = FOREVER if request.query_params.get("v") else "no-store"
            return Response(data, media_type="image/png", headers={"cache-control": kept})

        return answer

    async def start(request: Request) -> Response:
        """Queue an act."""
        try:
            body = _body(await request.body())
            name, run = str(body.get("act")), str(body.get("run") or "")
            if read_only:
                raise UserError("this page was started with --read-only")
            if name not in ACTS:
                raise UserError(f"{name}: no such act")
            if name not in WITHOUT_RUN:
                run = await run_in_threadpool(lambda: views.directory(run).name)
            act, options = ACTS[name], body.get("options") or {}
            words, inputs = act.words(run, options), await run_in_threadpool(act.inputs, options)
            return _json(jobs.add(words, run, act.quick, act.files, inputs, act.in_words).to_dict())
        except UserError as error:
            return _json({"mistake": str(error)}, 400)
        except OSError as error:  # of the folder of jobs
            return _json({"mistake": f"the job cannot be written: {error.strerror or error}"}, 507)

    async def cancel(request: Request) -> Response:
        try:
            jobs.cancel(request.path_params["id"])
        except UserError as error:
            return _json({"mistake": str(error)}, 404)
        return _json({})

    async def ask(request: Request) -> Response:
        """A picture from the model."""
        try:
            body = _body(await request.body())
            if body.get("op") not in OPERATIONS:
                raise UserError(f"{body.get('op')}: no such operation")
            if body["op"] == "recipe":
                if body.get("recipe") not in recipes.names():
                    raise UserError(f"{body.get('recipe')}: no such recipe")
            else:
                directory = await run_in_threadpool(views.directory, str(body.get("run")))
                body["path"] = str(directory.path.absolute())
                if type(body.get("step")) is not int:
                    raise UserError("step: expected a whole number")
            return _json(await model.ask(str(body.get("place", "")), body))
        except Superseded:
            return _json({"superseded": True}, 409)
        except UserError as error:
            return _json({"mistake": str(error)}, 400)

    async def release(request: Request) -> Response:
        model.stop()
        return _json({})

    async def events(request: Request) -> Response:
        subjects = request.query_params.getlist("of")[:8] or [JOBS]
        last = request.headers.get("last-event-id", "")
        return StreamingResponse(watcher.events(subjects, last), media_type="text/event-stream")

    async def states(request: Request) -> Response:
        """The same for a reader whose events do not arrive."""
        subjects = request.query_params.getlist("of")[:8]
        await watcher.refresh(subjects)
        return _json({name: watcher.states.get(name) for name in subjects})

    async def made(request: Request) -> Response:
        """A file that a job made."""
        try:
            job = jobs.get(request.path_params["id"])
            if request.path_params["file"] not in job.files:
                raise UserError("no such file")
        except UserError as error:
            return _json({"mistake": str(error)}, 404)
        path = job.folder / request.path_params["file"]
        saved = f"{job.run}.html" if path.suffix == ".html" else None  # to be kept, not to be shown from here
        return FileResponse(path, filename=saved)

    async def asset(request: Request) -> Response:
        try:
            data, kind = shell.asset(*request.url.path.strip("/").split("/"))
        except UserError:
            return Response(status_code=404)
        return Response(data, media_type=kind, headers={"cache-control": "no-cache"})

    async def page(request: Request) -> Response:
        runs = request.query_params.getlist("run")
        text = await run_in_threadpool(shell.page, views, jobs, request.url.path, runs)
        return Response(text, media_type="text/html")

    def named(read: Callable[[str], Any]) -> Answer:
        return reading(lambda request: read(request.path_params["name"]))

    def curves(request: Request) -> Any:
        ask = request.query_params
        begin, width, since = (int(ask.get(name, 0)) for name in ("begin", "width", "since"))
        end, most = int(ask["end"]) if "end" in ask else None, max(1, min(int(ask.get("bins", 1000)), 4000))
        columns = ask.getlist("column")[:40]
        return views.curves(request.path_params["name"], columns, begin, end, most, width, since)

    def grid(request: Request) -> bytes:
        ask, directory = request.query_params, views.directory(request.path_params["name"])
        columns, most = (int(ask[name]) if name in ask else None for name in ("columns", "most"))
        if not all(value is None or 1 <= value <= 1000 for value in (columns, most)):
            raise UserError("columns, most: 1 to 1,000")
        return tiles.tiles(directory, request.path_params["step"], columns, most)

    def picture(request: Request) -> bytes:
        at = request.path_params
        return tiles.picture(views.directory(at["name"]), at["folder"], at["file"])

    @asynccontextmanager
    async def living(app: Starlette) -> AsyncIterator[None]:
        yield
        await model.close()
        await jobs.close()

    facts = {"folder": str(folder), "read_only": read_only}
    run = "/api/run/{name}"
    routes = [
        Route("/api/runs", reading(lambda request: {**facts, "runs": views.runs()})),
        Route("/api/compare", reading(lambda request: views.compared(
            request.query_params.getlist("run")[:4]))),
        Route("/api/recipes", reading(lambda request: [
            {"name": name, **read_toml(recipes.path(name))["about"]} for name in recipes.names()])),
        Route("/api/events", events),
        Route("/api/states", states),
        Route("/api/jobs", reading(lambda request: [job.to_dict() for job in jobs.all.values()][::-1])),
        Route("/api/jobs", start, methods=["POST"]),
        Route("/api/jobs/{id:int}", reading(lambda request: jobs.get(request.path_params["id"]).to_dict())),
        Route("/api/jobs/{id:int}/cancel", cancel, methods=["POST"]),
        Route("/api/jobs/{id:int}/{file}", made),
        Route("/api/model", ask, methods=["POST"]),
        Route("/api/model/release", release, methods=["POST"]),
        Route(run, reading(lambda request: {**facts, **views.run(request.path_params["name"])})),
        Route(f"{run}/curves", reading(curves)),
        Route(f"{run}/values", reading(lambda request: views.values(
            request.path_params["name"], int(request.query_params["step"])))),
        Route(f"{run}/price", reading(lambda request: views.price(
            request.path_params["name"], int(request.query_params["step"])))),
        Route(f"{run}/aligned", named(lambda name: {**facts, **views.aligned(name)})),
        Route(f"{run}/disk", named(views.disk)),
        Route(f"{run}/journal", named(views.journal)),
        Route(f"{run}/kept", named(views.kept)),
        Route(f"{run}/picks", named(views.picks)),
        Route(f"{run}/picks/{{search}}.png", showing(lambda request: views.candidates(
            request.path_params["name"], request.path_params["search"]))),
        Route(f"{run}/tiles/{{step:int}}.png", showing(grid)),
        Route(f"{run}/{{folder}}/{{file}}", showing(picture)),
        *(Route(f"/{folder}/{{file}}", asset) for folder in shell.FOLDERS),
        Route("/", page),
        Route("/run/{name}", page),
        Route("/side", page), Route("/jobs", page), Route("/train", page),
        Route("/run/{name}/{screen}", page),
    ]  # fmt: skip
    app = Starlette(routes=routes, lifespan=living)
    app.state.jobs, app.state.model, app.state.watcher, app.state.views = jobs, model, watcher, views
    return app


def _json(value: Any, status: int = 200) -> Response:
    return Response(to_json(value), status, media_type="application/json")


def _body(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError("expected JSON") from error
    if not isinstance(body, Mapping):
        raise UserError("expected a JSON object")
    return dict(body)
