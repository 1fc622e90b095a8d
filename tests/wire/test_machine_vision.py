"""The VisionSystem of OPC 40100-1 as an asyncua client sees it: tree, state machines, methods, events, results."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio
from asyncua import Client, Node, ua
from asyncua.ua.uaerrors import BadNotSupported, BadUserAccessDenied, UaStatusCodeError

from bridge.domain.messages import Arrival, Command
from bridge.domain.status import StationState
from bridge.domain.verdict import VerdictCode
from bridge.outputs.opcua.server import OpcUaServer
from bridge.outputs.opcua.session import READING_METHODS
from bridge.outputs.vision.machine_vision import MachineVision
from tests.outputs.samples import DECIDED_UTC_NS, MS, outcome
from tests.wire.vision_bench import MODEL, RECIPES, RUNNING, Eye, Heard, Line, int32, structure, uint32, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Line]:
    line = Line()
    server = OpcUaServer(
        [line.panel],
        line="line1",
        endpoint="opc.tcp://127.0.0.1:0/linegate/",
        clock_ns=lambda: 7_000 * MS,
        anonymous=True,
        companion=MachineVision(clock_ns=lambda: 7_000 * MS, recipes=lambda: RECIPES),
    )
    port = await server.start()
    line.url = f"opc.tcp://127.0.0.1:{port}/linegate/"
    yield line
    await server.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def line(served: Line) -> Line:
    """The line as every test finds it: running, its triggers its own, two recipes known."""
    served.plc_enabled = True
    served.posted.clear()
    served.show(enabled=False, state=StationState.DISABLED, ready=False)
    await asyncio.sleep(0)
    served.status = RUNNING
    served.show()
    return served


@pytest_asyncio.fixture(loop_scope="module")
async def eye(line: Line) -> AsyncIterator[Eye]:
    async with Client(line.url) as client:
        await client.load_data_type_definitions()
        one = Eye(client, await client.get_namespace_index(MODEL))
        await one.become("Operational", "ContinuousExecution")
        yield one


Listen = Callable[..., Awaitable[Heard]]


@pytest_asyncio.fixture(loop_scope="module")
async def listen(eye: Eye) -> AsyncIterator[Listen]:
    """Give a way to subscribe to all events of the model at the VisionSystem, or at another node."""
    subscriptions = []

    async def subscribe(source: Node | None = None) -> Heard:
        names = {
            1013: "JobStarted", 1018: "StateChanged", 1019: "Error", 1020: "ErrorResolved", 1022: "RecipePrepared",
            1023: "Ready", 1024: "ResultReady", 1025: "AcquisitionDone",
        }  # fmt: skip
        types = [eye.ua.get_node(ua.NodeId(number, eye.space)) for number in names]
        heard = Heard(model={ua.NodeId(number, eye.space): name for number, name in names.items()})
        subscription = await eye.ua.create_subscription(10, heard)
        await subscription.subscribe_events(source or eye.node(), types)
        subscriptions.append(subscription)
        return heard

    yield subscribe
    for each in subscriptions:
        await each.delete()


async def test_the_vision_system_is_found_below_objects_and_below_its_station(eye: Eye) -> None:
    vision = ua.NodeId(1003, eye.space)
    assert await eye.node().read_type_definition() == vision
    found = [each for each in await eye.ua.nodes.objects.get_children() if await each.read_type_definition() == vision]
    assert found == [eye.node()]
    path = ["2:line1", "2:station1", "2:VisionSystem", f"{eye.space}:VisionStateMachine", "0:CurrentState", "0:Id"]
    state = await eye.ua.get_node(await (await eye.ua.nodes.objects.get_child(path)).read_value()).read_browse_name()
    assert (state.Name, await eye.ua.get_namespace_index("urn:linegate")) == ("Operational", 2)
    names = {(await each.read_browse_name()).Name for each in await eye.node().get_children()}
    assert names == {"VisionStateMachine", "RecipeManagement", "ConfigurationManagement", "ResultManagement"}


async def test_the_states_follow_the_station(eye: Eye, line: Line) -> None:
    line.show(state=StationState.FAULT, ready=False, error_text="the camera is lost")
    await eye.become("Error", None)
    line.show(state=StationState.READY, ready=False)
    await eye.become("Operational", "Initialized")
    line.show(ready=True)
    await eye.become("Operational", "ContinuousExecution")
    line.panel.check_heartbeat(10**12)
    await eye.become("Error", None)
    line.show(heartbeat=line.status.heartbeat + 1)
    await eye.become("Operational", "ContinuousExecution")


async def test_halt_switches_the_station_off_and_reset_on_again(eye: Eye, line: Line, listen: Listen) -> None:
    heard = await listen()
    assert await eye.command("Halt") == 0
    assert await eye.states() == ("Halted", None)
    assert await eye.command("Halt") == -1
    assert [each.name for each in line.posted if isinstance(each, Command)] == ["disable"]
    assert await eye.command("Reset") == 0
    assert await eye.states() == ("Operational", "ContinuousExecution")
    assert [each.name for each in line.posted if isinstance(each, Command)][1:] == ["clear-error", "enable"]
    await until(lambda: len(heard.of("StateChanged")) == 5)
    assert [each.Transition.Text for each in heard.of("StateChanged")] == [
        "OperationalToHalted", "HaltedToPreoperational", "PreoperationalToOperationalAuto", "InitializedToReadyAuto",
        "ReadyToContinuousExecutionAuto",
    ]  # fmt: skip


async def test_a_station_that_its_plc_holds_off_stays_halted(eye: Eye, line: Line) -> None:
    line.plc_enabled = False
    assert await eye.command("Halt") == 0
    assert await eye.command("Reset") == -7
    assert await eye.states() == ("Halted", None)


async def test_reset_in_a_fault_tries_and_tells_that_the_fault_stands(eye: Eye, line: Line, listen: Listen) -> None:
    heard = await listen()
    line.show(state=StationState.FAULT, ready=False, error_text="CAMERA_LOST: no picture")
    await eye.become("Error", None)
    assert await eye.command("Reset") == 0
    assert await eye.states() == ("Error", None)
    line.show(state=StationState.READY, ready=True, error_text="")
    await eye.become("Operational", "ContinuousExecution")
    await until(lambda: heard.of("ErrorResolved"))
    told = [(each.FromState.Text, each.ToState.Text, each.Message.Text, each.Severity) for each in heard.of("Error")]
    assert told == [
        ("Operational", "Error", "CAMERA_LOST: no picture", 800),
        ("Preoperational", "Error", "CAMERA_LOST: no picture", 800),
    ]
    assert [each.FromState.Text for each in heard.of("ErrorResolved")] == ["Error"]


async def test_reset_is_always_executable(eye: Eye, line: Line) -> None:
    line.show(enabled=False, state=StationState.DISABLED, ready=False)
    line.show(enabled=True, state=StationState.STARTING)
    await eye.become("Preoperational", None)
    assert await eye.call("VisionStateMachine.SelectModeAutomatic") == -7
    assert await eye.command("Reset") == 0
    assert await eye.states() == ("Preoperational", None)
    line.show(state=StationState.READY, ready=True)
    await eye.become("Operational", "ContinuousExecution")


async def test_select_mode_automatic_tells_whether_it_is_on(eye: Eye, line: Line) -> None:
    method = "VisionStateMachine.SelectModeAutomatic"
    assert await eye.call(method) == 0
    line.show(state=StationState.FAULT, ready=False)
    await eye.become("Error", None)
    assert await eye.call(method) == -1


async def test_a_result_is_told_with_what_it_is_of(eye: Eye, line: Line, listen: Listen) -> None:
    heard = await listen()
    at_server = await listen(eye.ua.nodes.server)
    for sequence, code in (
        (21, VerdictCode.PASS),
        (22, VerdictCode.FAIL),
        (23, VerdictCode.ERROR),
        (24, VerdictCode.LATE),
    ):
        line.accept(sequence)
        if sequence != 23:
            line.capture(sequence)
        line.decide(sequence, code=code)
    await until(lambda: len(heard.of("ResultReady")) == len(at_server.of("ResultReady")) == 4)
    results = heard.of("ResultReady")
    assert [each.ResultState for each in results] == [1, 1, 4, 3]
    assert [
        json.loads(
            each.ResultContent[0].Value if isinstance(each.ResultContent[0], ua.Variant) else each.ResultContent[0]
        )["verdict"]
        for each in results
    ] == ["PASS", "FAIL", "ERROR", "LATE"]
    one = results[1]
    assert (one.ResultId.Id, one.PartId.Id, one.IsPartial) == ("line1.station1.1.22", "A-000022", False)
    assert (one.ExternalRecipeId.Id, one.ExternalRecipeId.Version) == ("bracket-a", "3")
    assert (one.ExternalRecipeId.Hash.hex(), one.ExternalRecipeId.HashAlgorithm) == ("ab" * 32, "SHA-256")
    assert one.InternalRecipeId.Id == "bracket-a@3"
    assert len({each.JobId.Id for each in results}) == 1, "one job as long as the line triggers"
    both = ["AcquisitionDone", "ResultReady"]
    assert heard.names() == [*both, *both, "ResultReady", *both], "the third had no picture"
    assert heard.of("AcquisitionDone")[0].JobId == one.JobId


async def test_the_acquisition_is_told_long_before_the_verdict(eye: Eye, line: Line, listen: Listen) -> None:
    heard = await listen()
    at_server = await listen(eye.ua.nodes.server)
    line.accept(26)
    line.capture(26)
    await until(lambda: heard.names() == at_server.names() == ["AcquisitionDone"])
    told = heard.of("AcquisitionDone")[0]
    assert told.Time == datetime.fromtimestamp((DECIDED_UTC_NS - 5 * MS) / 1e9, UTC), "the exposure's moment"
    line.decide(26)
    await until(lambda: heard.names() == ["AcquisitionDone", "ResultReady"])
    assert heard.of("ResultReady")[0].JobId == told.JobId


async def test_a_replayed_result_is_no_event(eye: Eye, line: Line, listen: Listen) -> None:
    heard = await listen()
    line.panel.publish(outcome(31, replayed=True))
    line.decide(32)
    await until(lambda: heard.of("ResultReady"))
    assert [each.ResultId.Id for each in heard.of("ResultReady")] == ["line1.station1.1.32"]


async def test_results_are_given_by_their_id_and_by_filter(eye: Eye, line: Line) -> None:
    for sequence in range(41, 46):
        line.decide(sequence, code=VerdictCode.ERROR if sequence == 43 else VerdictCode.FAIL)
    wanted = structure(ua.ResultIdDataType(Id="line1.station1.1.42"))

    async def by_id() -> Any:
        return await eye.call("ResultManagement.GetResultById", wanted, int32(0))

    async with asyncio.timeout(5):
        while (answer := await by_id())[2] != 0:
            await asyncio.sleep(0.01)
    handle, found, error = answer
    assert (handle, error, found.ResultId.Id, found.PartId.Id) == (0, 0, "line1.station1.1.42", "A-000042")
    assert json.loads(found.ResultContent[0].Value)["sequence"] == 42
    parts = await eye.call("ResultManagement.GetResultComponentsById", wanted, int32(0))
    assert (len(parts), parts[4], parts[6].Id, parts[-1]) == (17, 1, "A-000042", 0)
    assert json.loads(parts[15][0].Value)["sequence"] == 42

    async def listed(state: int = 0, part: str = "", most: int = 0, start: int = 0) -> Any:
        return await eye.call(
            "ResultManagement.GetResultListFiltered",
            int32(state), structure(None), structure(ua.PartIdDataType(Id=part)), *[structure(None)] * 6,
            uint32(most), uint32(start), int32(0),
        )  # fmt: skip

    complete, count, _, results, error = await listed(state=4)
    assert (complete, error) == (True, 0)
    assert "line1.station1.1.43" in {each.ResultId.Id for each in results}
    assert all(each.ResultState == 4 for each in results)
    complete, count, _, results, _ = await listed(part="A-000044")
    assert (complete, count, [each.PartId.Id for each in results]) == (True, 1, ["A-000044"])
    complete, count, _, first, _ = await listed(most=2)
    assert (complete, count) == (False, 2)
    _, _, _, second, _ = await listed(most=2, start=2)
    assert not {each.ResultId.Id for each in first} & {each.ResultId.Id for each in second}


async def test_an_unknown_result_is_an_error_of_its_own(eye: Eye) -> None:
    wanted = structure(ua.ResultIdDataType(Id="nobody's"))
    assert (await eye.call("ResultManagement.GetResultById", wanted, int32(0)))[2] == -6
    assert (await eye.call("ResultManagement.GetResultComponentsById", wanted, int32(0)))[-1] == -6


async def test_stop_waits_in_ready_and_each_part_is_a_job_then(eye: Eye, line: Line, listen: Listen) -> None:
    heard = await listen()
    assert await eye.stop() == 0
    assert await eye.states() == ("Operational", "Ready")
    assert await eye.stop() == -1
    line.accept(61)
    await eye.become("Operational", "SingleExecution")
    line.decide(61)
    await eye.become("Operational", "Ready")
    job, error = await eye.start("StartContinuous")
    assert error == 0
    assert await eye.states() == ("Operational", "ContinuousExecution")
    line.decide(62)
    await until(lambda: len(heard.of("ResultReady")) == 2)
    single, continuous = (each.JobId.Id for each in heard.of("ResultReady"))
    assert [each.JobId.Id for each in heard.of("JobStarted")] == [single, job]
    assert continuous == job
    assert heard.of("ResultReady")[1].MeasId.Id == "M-1"
    assert await eye.stop("Abort") == 0


async def test_a_part_under_way_keeps_its_job_over_a_stop(eye: Eye, line: Line, listen: Listen) -> None:
    heard = await listen()
    line.accept(71)
    line.decide(71)
    line.accept(72)
    await until(lambda: heard.of("ResultReady"))
    assert await eye.stop() == 0
    line.decide(72)
    await until(lambda: len(heard.of("ResultReady")) == 2)
    first, second = heard.of("ResultReady")
    assert first.JobId == second.JobId
    assert "JobStarted" not in heard.names()


async def test_a_single_job_triggers_the_station(eye: Eye, line: Line, listen: Listen) -> None:
    heard = await listen()
    assert await eye.start("StartSingleJob") == ("", -1), "the line's own triggers run"
    assert await eye.stop() == 0
    job, error = await eye.start("StartSingleJob", part="P-1", recipe="bracket-a")
    assert error == 0
    assert await eye.states() == ("Operational", "SingleExecution")
    (arrival,) = (each for each in line.posted if isinstance(each, Arrival))
    trigger = arrival.trigger
    assert (trigger.sequence, trigger.part_id, trigger.arrived_ns) == (11, "P-1", 7_000 * MS)
    assert (trigger.source, trigger.problem) == ("opcua", None)
    assert await eye.start("StartSingleJob") == ("", -1), "one at a time"
    line.accept(11)
    line.capture(11)
    line.decide(11)
    await eye.become("Operational", "Ready")
    await until(lambda: heard.of("Ready") and heard.of("ResultReady"))
    assert heard.of("JobStarted")[-1].JobId.Id == heard.of("ResultReady")[0].JobId.Id == job
    assert heard.of("ResultReady")[0].MeasId.Id == "M-1"
    assert heard.names()[-6:] == [
        "StateChanged",
        "JobStarted",
        "AcquisitionDone",
        "ResultReady",
        "StateChanged",
        "Ready",
    ]


async def test_a_single_job_carries_the_counts_that_its_gate_needs(eye: Eye, line: Line) -> None:
    assert await eye.stop() == 0
    more = [uint32(4_000_000_000), uint32(456_789), ua.Variant(12, ua.VariantType.UInt16)]
    _, error = await eye.start("StartSingleJob", parameters=more)
    trigger = next(each for each in line.posted if isinstance(each, Arrival)).trigger
    assert (error, trigger.sequence, trigger.part_id) == (0, 4_000_000_000, "4000000000")
    assert (trigger.encoder_counts, trigger.age_ms) == (456_789, 12.0)


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"recipe": "bracket-b"}, -3),
        ({"part": "x" * 129}, -4),
        ({"part": "a\nb"}, -4),
        ({"meas": "x" * 129}, -4),
        ({"parameters": [ua.Variant("7", ua.VariantType.String)]}, -4),
        ({"parameters": [ua.Variant(-1, ua.VariantType.Int32)]}, -4),
        ({"part": "A-000081", "parameters": [ua.Variant(81, ua.VariantType.UInt32)]}, -5),
    ],
)
async def test_a_single_job_that_can_not_be_starts_nothing(eye: Eye, line: Line, asked: Any, error: int) -> None:
    line.decide(81)
    assert await eye.stop() == 0
    assert await eye.start("StartSingleJob", **asked) == ("", error)
    assert [each for each in line.posted if isinstance(each, Arrival)] == []
    assert await eye.states() == ("Operational", "Ready")


async def test_a_recipe_is_prepared_and_told(eye: Eye, line: Line, listen: Listen) -> None:
    heard = await listen()

    async def prepare(external: str = "", internal: str = "", content: bytes | None = None) -> Any:
        return await eye.call(
            "RecipeManagement.PrepareRecipe",
            structure(ua.RecipeIdExternalDataType(Id=external, Hash=content)),
            structure(ua.RecipeIdInternalDataType(Id=internal) if internal else None),
        )

    for wrong in ("nonsense", "bracket-b@9", ""):
        assert (await prepare(wrong))[1:] == [False, -2], wrong
    assert [each for each in line.posted if isinstance(each, Command)] == [], "the station is not troubled with it"
    internal, completed, error = await prepare("nonsense", internal="bracket-b@1")
    assert (internal.Id, internal.Hash.hex(), completed, error) == ("bracket-b@1", "cd" * 32, True, 0)
    await until(lambda: heard.of("RecipePrepared"))
    (told,) = heard.of("RecipePrepared")
    assert (told.ExternalId.Id, told.InternalId.Id) == ("bracket-b", "bracket-b@1")
    assert told.ExternalId.Hash.hex() == "cd" * 32
    assert "InitializedToReadyRecipe" in [each.Transition.Text for each in heard.of("StateChanged")]
    assert (await prepare("bracket-b", content=b"other"))[1:] == [False, -3]
    line.show(state=StationState.FAULT, ready=False)
    await eye.become("Error", None)
    assert (await prepare("bracket-b"))[2] == -1


async def test_the_recipes_are_listed(eye: Eye) -> None:
    async def listed(external: str = "", prepared: int = 2, most: int = 0, start: int = 0) -> Any:
        complete, count, _, recipes, error = await eye.call(
            "RecipeManagement.GetRecipeListFiltered",
            structure(ua.RecipeIdExternalDataType(Id=external)), structure(None), int32(prepared), uint32(most),
            uint32(start), int32(0),
        )  # fmt: skip
        assert (count, error) == (len(recipes), 0)
        return complete, [each.Id for each in recipes]

    assert await listed() == (True, ["bracket-a@3", "bracket-b@1"])
    assert await listed(prepared=1) == (True, ["bracket-a@3"])
    assert await listed(prepared=0) == (True, ["bracket-b@1"])
    assert await listed(most=1) == (False, ["bracket-a@3"])
    assert await listed(start=1) == (True, ["bracket-b@1"])
    assert await listed("bracket-b") == (True, ["bracket-b@1"])


async def test_what_is_not_there_says_so(eye: Eye, line: Line) -> None:
    for path, arguments in (
        ("ConfigurationManagement.GetConfigurationList", [uint32(0), uint32(0), int32(0)]),
        ("ConfigurationManagement.ActivateConfiguration", [structure(None)]),
        ("RecipeManagement.UnprepareRecipe", [structure(None), structure(None)]),
        ("VisionStateMachine.ConfirmAll", [int32(0)]),
        ("VisionStateMachine.AutomaticModeStateMachine.SimulationMode", [ua.Variant(True), int32(0), ua.Variant("")]),
    ):
        with pytest.raises(BadNotSupported):
            await eye.call(path, *arguments)
    assert line.posted == []
    running = await eye.node("ConfigurationManagement.ActiveConfiguration").read_value()
    assert running.InternalId.Id == "linegate"


async def test_a_client_writes_nothing_of_it(eye: Eye) -> None:
    paths = ("VisionStateMachine.CurrentState", "ConfigurationManagement.ActiveConfiguration")
    of_types = [eye.ua.get_node(ua.NodeId(number, eye.space)) for number in (6226, 6262, 6303, 6132)]
    for node in (*(eye.node(path) for path in paths), *of_types):
        before = await node.read_data_value(raise_on_bad_status=False)
        with pytest.raises(BadUserAccessDenied):
            await node.write_value(before.Value)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], ua.StatusCodes.BadArgumentsMissing),
        ([int32(0), ua.Variant("why"), int32(0)], ua.StatusCodes.BadTooManyArguments),
        ([ua.Variant("0"), ua.Variant("why")], ua.StatusCodes.BadInvalidArgument),
    ],
)
async def test_wrong_arguments_do_nothing(eye: Eye, line: Line, arguments: list[ua.Variant], code: int) -> None:
    with pytest.raises(UaStatusCodeError) as refused:
        await eye.call("VisionStateMachine.Halt", *arguments)
    assert (refused.value.code, line.posted) == (code, [])


ODD = (
    ua.Variant("x" * 10_000, ua.VariantType.String),
    ua.Variant(-1, ua.VariantType.Int32),
    ua.Variant(2**32 - 1, ua.VariantType.UInt32),
    ua.Variant(2**31 - 1, ua.VariantType.Int32),
    ua.Variant(float("nan"), ua.VariantType.Double),
    ua.Variant([ua.Variant([1, 2], ua.VariantType.Int32)], ua.VariantType.Variant, is_array=True),
    ua.Variant(ua.LocalizedText("x"), ua.VariantType.LocalizedText),
)


async def test_odd_arguments_of_any_method_are_no_fault_of_the_server(eye: Eye, line: Line) -> None:
    assert await eye.stop() == 0
    structures = [structure(getattr(ua, name)(Id="y" * 300)) for name in ("PartIdDataType", "RecipeIdExternalDataType")]
    for owner in ("RecipeManagement", "ResultManagement", "VisionStateMachine.AutomaticModeStateMachine"):
        for method in await eye.node(owner).get_methods():
            wanted = [
                each for each in await method.get_properties() if str(each.nodeid.Identifier).endswith("InputArguments")
            ]
            number = len(await wanted[0].read_value())
            for each in (*ODD, *structures):
                try:
                    await eye.node(owner).call_method(method.nodeid, *[each] * number)
                except UaStatusCodeError as refused:
                    assert refused.code in {ua.StatusCodes.BadInvalidArgument, ua.StatusCodes.BadNotSupported}
    assert [each for each in line.posted if isinstance(each, Arrival)] == []
    assert await eye.states() == ("Operational", "Ready")


async def test_what_only_reads_leaves_the_station_alone(eye: Eye, line: Line) -> None:
    none = structure(None)
    for path, arguments in (
        ("RecipeManagement.GetRecipeListFiltered", [none, none, int32(2), uint32(0), uint32(0), int32(0)]),
        ("ResultManagement.GetResultById", [none, int32(0)]),
        ("ResultManagement.GetResultComponentsById", [none, int32(0)]),
        ("ResultManagement.GetResultListFiltered", [int32(0), *[none] * 8, uint32(0), uint32(0), int32(0)]),
    ):
        assert path.rpartition(".")[2] in READING_METHODS
        await eye.call(path, *arguments)
    assert (line.posted, len(READING_METHODS)) == ([], 5)


async def test_a_structure_in_the_place_of_another_is_refused(eye: Eye) -> None:
    with pytest.raises(UaStatusCodeError) as refused:
        await eye.call("ResultManagement.GetResultById", structure(ua.PartIdDataType(Id="1")), int32(0))
    assert refused.value.code == ua.StatusCodes.BadInvalidArgument
