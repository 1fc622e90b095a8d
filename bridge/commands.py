"""What an operator or a PLC asks of a station, carried out and answered."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from bridge.domain.condition import Condition
from bridge.domain.messages import Command, Reply
from bridge.errors import BridgeError
from bridge.ports import Loaded, RecipeBook

_log = structlog.get_logger(__name__)


class Commands:
    """Carry out the commands of one station.

    `announce` names a challenge part, `activate` takes a recipe whose model is warm, `show` shows the status.
    """

    def __init__(
        self,
        *,
        condition: Condition,
        recipes: RecipeBook,
        announce: Callable[[str | None, int | None], Reply],
        activate: Callable[[Loaded], None],
        spawn: Callable[[Coroutine[Any, Any, None], str], None],
        show: Callable[[], None],
    ) -> None:
        self._condition = condition
        self._recipes = recipes
        self._announce = announce
        self._activate = activate
        self._spawn = spawn
        self._show = show

    def carry_out(self, command: Command) -> None:
        """Do as told and answer; a recipe is answered once it is active or refused."""
        if command.name == "select-recipe":
            self._spawn(self._select_recipe(command), "select a recipe")
            return
        reply = Reply(ok=True)
        if command.name in ("enable", "disable"):
            self._condition.operator_enabled = command.name == "enable"
        elif command.name == "reset-counters":
            self._condition.reset_counters()
        elif command.name == "challenge":
            reply = self._announce(command.part_id, command.sequence)
        else:
            self._condition.clear_error()
        _answer(command, reply)

    async def _select_recipe(self, command: Command) -> None:
        """Load another recipe beside the active one, which judges on until the new model is warm and checked."""
        self._condition.loading = True
        self._show()
        try:
            loaded = await self._recipes.load(name=command.recipe, number=command.recipe_number)
        except BridgeError as exc:
            self._condition.recipe_ok = False
            _log.warning("recipe_refused", origin=command.origin, reason=str(exc))
            _answer(command, Reply(ok=False, text=str(exc)))
        else:
            self._activate(loaded)
            _answer(command, Reply(ok=True))
        finally:
            self._condition.loading = False
            self._show()


def _answer(command: Command, reply: Reply) -> None:
    if command.respond is not None:
        command.respond(reply)
