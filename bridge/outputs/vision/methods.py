"""The methods of a VisionSystem: what a client's call does to the station, and the error that it is answered with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import IntEnum
from itertools import islice
from typing import Any, Protocol

from asyncua import ua
from asyncua.ua.status_codes import StatusCodes

from bridge.domain.messages import Arrival, Command, CommandName
from bridge.domain.part import Trigger
from bridge.domain.vision_states import VisionState
from bridge.errors import ConfigError
from bridge.outputs.opcua.control import ask
from bridge.outputs.opcua.values import status_code
from bridge.outputs.plc.control import nobody_waits
from bridge.outputs.plc.panel import PlcPanel
from bridge.outputs.vision.arguments import parameters_of, refusal
from bridge.outputs.vision.nodes import AUTOMATIC, TOP
from bridge.outputs.vision.results import Job, RecipeIdentity, ResultFilter
from bridge.outputs.vision.station import Happening, VisionStation
from bridge.outputs.vision.values import job_id, recipe_ids, result_components, result_structure, text_of

RecipeList = Callable[[], Sequence[str]]
Outputs = list[ua.Variant]

MOST_RESULTS = 50
"""In one answer: more would hold the servers' loop up, and with it the next verdict."""
PATIENCE_S = 0.5
"""How long a call may take: a client's next request waits behind it, and some take a second's silence for a lost server."""
LONGEST_ID = 128


class MethodError(IntEnum):
    """The Error argument of a method: 0, or one of this application's own, which the specification wants below 0."""

    OK = 0
    WRONG_STATE = -1
    UNKNOWN_RECIPE = -2
    OTHER_RECIPE = -3
    BAD_ARGUMENT = -4
    DUPLICATE = -5
    UNKNOWN_RESULT = -6
    REFUSED = -7


class Stage(Protocol):
    """Where happenings become states and events, and where a method can wait for the station."""

    async def apply(self, happened: Sequence[Happening]) -> None:
        """Show happenings, and return once they are shown."""

    async def comes(self, so: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until something is so at the station; False when it never was."""


class VisionMethods:
    """Answer the methods of one VisionSystem."""

    def __init__(
        self,
        panel: PlcPanel,
        station: VisionStation,
        stage: Stage,
        *,
        clock_ns: Callable[[], int],
        new_id: Callable[[], str],
        recipes: RecipeList,
    ) -> None:
        self._panel, self._station, self._stage = panel, station, stage
        self._clock_ns, self._new_id, self._recipes = clock_ns, new_id, recipes
        self._calls: Mapping[str, Callable[..., Awaitable[Outputs]]] = {
            f"{TOP}.Halt": self._halt,
            f"{TOP}.Reset": self._reset,
            f"{TOP}.SelectModeAutomatic": self._select_mode_automatic,
            f"{AUTOMATIC}.StartSingleJob": self._start_single_job,
            f"{AUTOMATIC}.StartContinuous": self._start_continuous,
            f"{AUTOMATIC}.Stop": lambda *_: self._end("Stop"),
            f"{AUTOMATIC}.Abort": lambda *_: self._end("Abort"),
            "RecipeManagement.PrepareRecipe": self._prepare_recipe,
            "RecipeManagement.GetRecipeListFiltered": self._list_recipes,
            "ResultManagement.GetResultById": self._result_by_id,
            "ResultManagement.GetResultComponentsById": self._result_components,
            "ResultManagement.GetResultListFiltered": self._list_results,
        }

    def callback(self, path: str, wanted: Sequence[ua.Argument]) -> Callable[..., Awaitable[Any]]:
        """Give what the server calls for the method at `path`; one that is not there answers BadNotSupported."""
        call = self._calls.get(path)

        async def method(_parent: ua.NodeId, *arguments: ua.Variant) -> Any:
            if call is None:
                return status_code(StatusCodes.BadNotSupported)
            refused = refusal(arguments, wanted)
            return refused if refused is not None else await call(*(each.Value for each in arguments))

        return method

    # -- the state machines --------------------------------------------------------------------------------------

    async def _halt(self, _cause: int, _description: str) -> Outputs:
        """Switch the station off: parts get ERROR and their policy until Reset."""
        if not self._station.machine.allows("Halt"):
            return _error(MethodError.WRONG_STATE)
        return await self._switch("Halt", "disable", lambda state: state is VisionState.HALTED)

    async def _reset(self, _cause: int, _description: str) -> Outputs:
        """Clear the station's latched alarms, and switch a halted one on; the specification wants it always executable."""
        done = await self._command("clear-error")
        if self._station.machine.state is VisionState.HALTED:
            # a PLC that holds the station off keeps it halted
            return await self._switch("Reset", "enable", lambda state: state is not VisionState.HALTED)
        await self._stage.apply(self._station.call("Reset"))
        return _error(MethodError.OK if done else MethodError.REFUSED)

    async def _switch(self, method: str, command: CommandName, so: Callable[[VisionState], bool]) -> Outputs:
        """Give the station a command, and answer when its machine shows what came of it."""
        self._station.intent = method
        try:
            done = await self._command(command)
            there = done and await self._stage.comes(lambda: so(self._station.machine.state), PATIENCE_S)
        finally:
            self._station.intent = ""
        return _error(MethodError.OK if there else MethodError.REFUSED)

    async def _select_mode_automatic(self) -> Outputs:
        """Answer whether the automatic mode is on: a station enters it by itself as soon as it can judge."""
        state = self._station.machine.state
        answers = {VisionState.OPERATIONAL: MethodError.OK, VisionState.PREOPERATIONAL: MethodError.REFUSED}
        return _error(answers.get(state, MethodError.WRONG_STATE))

    async def _start_single_job(self, meas: Any, part: Any, recipe: Any, product: Any, more: Any) -> Outputs:
        """Trigger one part. It is judged, recorded and sorted as one of any other source."""
        arrived_ns = self._clock_ns()
        parameters = parameters_of(more)
        fault = self._no_start("StartSingleJob", recipe, meas, product)
        if fault is None and parameters is None:
            fault = MethodError.BAD_ARGUMENT
        if fault is not None or parameters is None:
            return _job_answer("", fault or MethodError.BAD_ARGUMENT)
        sequence = parameters.sequence
        if sequence is None:
            sequence = self._station.next_sequence(self._panel.newest_sequence)
        part_id = text_of(part) or str(sequence)
        if not _is_id(part_id):
            return _job_answer("", MethodError.BAD_ARGUMENT)
        known = self._panel.result_document(sequence)
        if known is not None and json.loads(known).get("part_id") == part_id:
            return _job_answer("", MethodError.DUPLICATE)
        trigger = Trigger(
            sequence=sequence,
            part_id=part_id,
            arrived_ns=arrived_ns,
            encoder_counts=parameters.encoder,
            age_ms=None if parameters.age_ms is None else float(parameters.age_ms),
            source="opcua",
        )
        self._panel.post(Arrival(trigger=trigger, acknowledge=nobody_waits))
        job = Job(job_id=self._new_id(), meas_id=text_of(meas), product_id=text_of(product))
        await self._stage.apply(self._station.call("StartSingleJob", job, sequence=sequence))
        return _job_answer(job.job_id, MethodError.OK)

    async def _start_continuous(self, meas: Any, _part: Any, recipe: Any, product: Any, _more: Any) -> Outputs:
        """Make one job of all parts that the line triggers from now on."""
        fault = self._no_start("StartContinuous", recipe, meas, product)
        if fault is not None:
            return _job_answer("", fault)
        job = Job(job_id=self._new_id(), meas_id=text_of(meas), product_id=text_of(product))
        await self._stage.apply(self._station.call("StartContinuous", job))
        return _job_answer(job.job_id, MethodError.OK)

    async def _end(self, method: str) -> Outputs:
        """End the job and wait in Ready. A part that is under way, or that the line triggers, is judged all the same."""
        if not self._station.machine.allows(method):
            return _error(MethodError.WRONG_STATE)
        await self._stage.apply(self._station.call(method))
        return _error(MethodError.OK)

    def _no_start(self, method: str, recipe: Any, *ids: Any) -> MethodError | None:
        if not self._station.machine.allows(method):
            return MethodError.WRONG_STATE
        if not all(_is_id(text_of(each)) for each in ids):
            return MethodError.BAD_ARGUMENT
        active = self._station.recipe
        return None if text_of(recipe) in ("", active.name, active.reference) else MethodError.OTHER_RECIPE

    # -- recipes -------------------------------------------------------------------------------------------------

    async def _prepare_recipe(self, external: Any, internal: Any) -> Outputs:
        """Make a recipe active; the internal id goes before the external one. The line is judged on meanwhile."""
        wanted = internal if text_of(internal) else external
        name, _, revision = text_of(wanted).partition("@")
        if self._station.machine.state is not VisionState.OPERATIONAL:
            return _recipe_answer(None, MethodError.WRONG_STATE)
        known = dict(each.partition("@")[::2] for each in await self._known_recipes())
        if name not in known or revision not in ("", known[name]):
            return _recipe_answer(None, MethodError.UNKNOWN_RECIPE)
        self._station.intent = "PrepareRecipe"  # until it is prepared, which may be long after the answer
        reply = await ask(
            self._panel,
            lambda respond: Command(name="select-recipe", origin="opcua", recipe=name, respond=respond),
            timeout_s=PATIENCE_S,
        )
        asked = RecipeIdentity(name=name, reference=f"{name}@{known[name]}")
        if reply is not None and not reply.ok:
            return _recipe_answer(None, MethodError.UNKNOWN_RECIPE)
        if not await self._stage.comes(lambda: self._station.recipe.reference == asked.reference, PATIENCE_S):
            return _recipe_answer(asked, completed=False)
        active = self._station.recipe
        wrong_content = bool(getattr(wanted, "Hash", None)) and wanted.Hash.hex() != active.sha256
        return _recipe_answer(active, MethodError.OTHER_RECIPE if wrong_content else MethodError.OK)

    async def _list_recipes(
        self, external: Any, product: Any, prepared: int, most: int, start: int, _timeout: int
    ) -> Outputs:
        """List the recipes that can be prepared; no recipe is linked to a product here."""
        active = self._station.recipe
        name = text_of(external).partition("@")[0]
        found = [
            each
            for each in await self._known_recipes()
            if int(prepared) not in (0, 1) or bool(prepared) == (each == active.reference)
            if name in ("", each.partition("@")[0]) and not text_of(product)
        ]
        shown = found[start : start + most] if most else found[start:]
        identities = [
            active if each == active.reference else RecipeIdentity(name=each.partition("@")[0], reference=each)
            for each in shown
        ]
        return [
            ua.Variant(start + len(shown) >= len(found), ua.VariantType.Boolean),
            ua.Variant(len(shown), ua.VariantType.UInt32),
            ua.Variant(0, ua.VariantType.UInt32),
            ua.Variant([recipe_ids(each)[1] for each in identities], ua.VariantType.ExtensionObject, is_array=True),
            *_error(MethodError.OK),
        ]

    async def _known_recipes(self) -> Sequence[str]:
        try:
            return await asyncio.to_thread(self._recipes)
        except ConfigError:
            return [self._station.recipe.reference]  # a file that can't be read hides the others, not the active one

    # -- results -------------------------------------------------------------------------------------------------

    async def _result_by_id(self, result_id: Any, _timeout: int) -> Outputs:
        found = self._station.results.get(text_of(result_id))
        return [
            ua.Variant(0, ua.VariantType.UInt32),
            ua.Variant(result_structure(found) if found else None, ua.VariantType.ExtensionObject),
            *_error(MethodError.OK if found else MethodError.UNKNOWN_RESULT),
        ]

    async def _result_components(self, result_id: Any, _timeout: int) -> Outputs:
        found = self._station.results.get(text_of(result_id))
        return [*result_components(found), *_error(MethodError.OK if found else MethodError.UNKNOWN_RESULT)]

    async def _list_results(self, state: int, meas: Any, part: Any, *others: Any) -> Outputs:
        external, internal, _, _, product, job, most, start, _timeout = others
        wanted = ResultFilter(
            state=int(state),
            meas_id=text_of(meas),
            part_id=text_of(part),
            external_recipe=text_of(external),
            internal_recipe=text_of(internal),
            product_id=text_of(product),
            job_id=text_of(job),
        )
        limit = min(most or MOST_RESULTS, MOST_RESULTS)
        found = list(islice(self._station.results.filtered(wanted), start, start + limit + 1))
        shown = [result_structure(each) for each in found[:limit]]
        return [
            ua.Variant(len(found) <= limit, ua.VariantType.Boolean),
            ua.Variant(len(shown), ua.VariantType.UInt32),
            ua.Variant(0, ua.VariantType.UInt32),
            ua.Variant(shown, ua.VariantType.ExtensionObject, is_array=True),
            *_error(MethodError.OK),
        ]

    async def _command(self, name: CommandName) -> bool:
        reply = await ask(
            self._panel, lambda respond: Command(name=name, origin="opcua", respond=respond), timeout_s=PATIENCE_S
        )
        return reply is not None and reply.ok


def _is_id(text: str) -> bool:
    return len(text) <= LONGEST_ID and text.isprintable()


def _error(code: MethodError) -> Outputs:
    return [ua.Variant(int(code), ua.VariantType.Int32)]


def _job_answer(job: str, code: MethodError) -> Outputs:
    return [ua.Variant(job_id(job), ua.VariantType.ExtensionObject), *_error(code)]


def _recipe_answer(
    recipe: RecipeIdentity | None, code: MethodError = MethodError.OK, *, completed: bool = True
) -> Outputs:
    internal = recipe_ids(recipe)[1] if recipe else None
    done = completed and code is MethodError.OK
    return [
        ua.Variant(internal, ua.VariantType.ExtensionObject),
        ua.Variant(done, ua.VariantType.Boolean),
        *_error(code),
    ]
