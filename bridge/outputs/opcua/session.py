"""Sessions with rights: what each user may do, and nothing to another session's subscriptions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from asyncua import ua
from asyncua.common.utils import ServiceError
from asyncua.server.internal_server import InternalServer
from asyncua.server.internal_session import InternalSession, SessionState
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes

from bridge.outputs.opcua.access import Person
from bridge.outputs.opcua.values import standard_id, status_code

READING_METHODS = frozenset(
    {"GetResult", "GetRecipeListFiltered", "GetResultById", "GetResultComponentsById", "GetResultListFiltered"}
)
"""Methods of ours that change nothing: a viewer may call them. Every other one acts on the station."""
_READING_STANDARD = {
    standard_id(number)
    for number in (
        ObjectIds.Server_GetMonitoredItems,
        ObjectIds.ConditionType_ConditionRefresh,
        ObjectIds.ConditionType_ConditionRefresh2,
    )
}
_CURRENT_WRITE = 1 << ua.AccessLevel.CurrentWrite


class PlcSession(InternalSession):
    """A session of the library's, with the rights of whoever has logged in.

    `channel` is what the session was created on: policy, mode and the client's certificate. `proven` is set right before
    an activation, by whoever has checked the identity.
    """

    channel: tuple[str, ua.MessageSecurityMode, bytes] | None = None
    proven: Person | None = None

    def activate_session(
        self, params: ua.ActivateSessionParameters, peer_certificate: bytes | None
    ) -> ua.ActivateSessionResult:
        """Activate for the user whose identity was checked just now; raises ServiceError where none was."""
        person, self.proven = self.proven, None
        if person is None:
            raise ServiceError(StatusCodes.BadUserAccessDenied)
        if self.state is SessionState.Activated and self.user.name != person.name:
            raise ServiceError(StatusCodes.BadIdentityChangeNotSupported)
        params.UserIdentityToken = ua.AnonymousIdentityToken()  # the identity is known
        result = super().activate_session(params, peer_certificate)
        self.user = person
        return result

    @property
    def writes(self) -> bool:
        """Whether its user may write Control and call every method."""
        return isinstance(self.user, Person) and self.user.writes

    async def read(self, params: ua.ReadParameters) -> list[ua.DataValue]:
        """Read; a viewer sees no node as writable for him."""
        values = await super().read(params)
        if self.writes:
            return values
        return [_for_viewer(each.AttributeId, value) for each, value in zip(params.NodesToRead, values, strict=True)]

    async def write(self, params: ua.WriteParameters) -> list[ua.StatusCode]:
        """Write, if the user may."""
        if not self.writes:
            return [status_code(StatusCodes.BadUserAccessDenied) for _ in params.NodesToWrite]
        return await super().write(params)

    async def call(self, params: list[ua.CallMethodRequest]) -> list[ua.CallMethodResult]:
        """Call methods; a viewer only those that read."""
        return [
            (await super(PlcSession, self).call([each]))[0] if self._may_call(each) else _denied() for each in params
        ]

    def _may_call(self, each: ua.CallMethodRequest) -> bool:
        method = each.MethodId
        if self.writes or method in _READING_STANDARD:
            return True
        return str(method.Identifier).rpartition(".")[2] in READING_METHODS

    def _is_same_client(self, other: InternalSession | None) -> bool:
        return isinstance(other, PlcSession) and (other.user.name, other.channel) == (self.user.name, self.channel)

    def _owns(self, ids: Iterable[int]) -> bool:
        found = [self.subscription_service.subscriptions.get(each) for each in ids]
        return all(each is None or each.session_id == self.session_id for each in found)

    def _need_own(self, *ids: int) -> None:
        """Raise ServiceError for a subscription of somebody else: to this session there is none of that id."""
        if not self._owns(ids):
            raise ServiceError(StatusCodes.BadSubscriptionIdInvalid)

    async def create_monitored_items(
        self, params: ua.CreateMonitoredItemsParameters
    ) -> list[ua.MonitoredItemCreateResult]:
        """Add items to a subscription of its own."""
        self._need_own(params.SubscriptionId)
        return await super().create_monitored_items(params)

    async def modify_monitored_items(
        self, params: ua.ModifyMonitoredItemsParameters
    ) -> list[ua.MonitoredItemModifyResult]:
        """Change items of a subscription of its own."""
        self._need_own(params.SubscriptionId)
        return await super().modify_monitored_items(params)

    async def delete_monitored_items(self, params: ua.DeleteMonitoredItemsParameters) -> list[ua.StatusCode]:
        """Delete items of a subscription of its own."""
        self._need_own(params.SubscriptionId)
        return await super().delete_monitored_items(params)

    async def set_monitoring_mode(self, params: ua.SetMonitoringModeParameters) -> list[ua.StatusCode]:
        """Set the mode of items of a subscription of its own."""
        self._need_own(params.SubscriptionId)
        return await super().set_monitoring_mode(params)

    async def set_publishing_mode(self, params: ua.SetPublishingModeParameters) -> list[ua.StatusCode]:
        """Set the mode of subscriptions of its own."""
        self._need_own(*params.SubscriptionIds)
        return await super().set_publishing_mode(params)

    async def delete_subscriptions(self, ids: list[int]) -> list[ua.StatusCode]:
        """Delete subscriptions of its own."""
        self._need_own(*ids)
        return await super().delete_subscriptions(ids)

    def modify_subscription(self, params: ua.ModifySubscriptionParameters) -> ua.ModifySubscriptionResult:
        """Change a subscription of its own."""
        self._need_own(params.SubscriptionId)
        return super().modify_subscription(params)

    def republish(self, params: ua.RepublishParameters) -> ua.NotificationMessage:
        """Repeat a notification of a subscription of its own."""
        self._need_own(params.SubscriptionId)
        return super().republish(params)

    def publish(self, acks: Iterable[ua.SubscriptionAcknowledgement] | None = None) -> tuple[int, list[ua.StatusCode]]:
        """Acknowledge notifications of its own, and wait for the next."""
        return super().publish([each for each in acks or [] if self._owns([each.SubscriptionId])])

    async def transfer_subscriptions(  # type: ignore[override]
        self, params: ua.TransferSubscriptionsParameters, callback: Callable[..., Any]
    ) -> list[ua.TransferResult]:
        """Take over subscriptions of a session of the same user, who has lost it; raises ServiceError for others'."""
        sessions = {each.session_id: each for each in self.iserver._external_sessions.values()}
        for each in params.SubscriptionIds:
            found = self.subscription_service.subscriptions.get(int(each))
            owner = sessions.get(found.session_id) if found else None
            if found and not self._is_same_client(owner):
                raise ServiceError(StatusCodes.BadUserAccessDenied)
        return await super().transfer_subscriptions(params, callback)


def _for_viewer(attribute: int, value: ua.DataValue) -> ua.DataValue:
    if attribute != AttributeIds.UserAccessLevel or value.Value is None or not isinstance(value.Value.Value, int):
        return value
    bits = value.Value.Value & ~_CURRENT_WRITE
    return replace(value, Value=ua.Variant(bits, ua.VariantType.Byte))


def _denied() -> ua.CallMethodResult:
    return ua.CallMethodResult(StatusCode=status_code(StatusCodes.BadUserAccessDenied))


class PlcInternalServer(InternalServer):
    """Makes sessions with rights, whose tokens can't be guessed; identities are checked before, and beside the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.user_manager = None
        self.supported_tokens = (ua.AnonymousIdentityToken,)  # type: ignore[assignment]

    def create_session(self, name: str, user: Any = None, external: bool = False) -> InternalSession:
        """Make a session; without a log-in it may do nothing."""
        return PlcSession(self, self.aspace, self.subscription_service, name, user=Person(), external=external)

    def register_external_session(self, session: InternalSession) -> None:
        """Give the session a token of 256 random bits in the place of the library's counter."""
        session.auth_token = ua.NodeId(ua.ByteString(secrets.token_bytes(32)), ua.Int16(0), ua.NodeIdType.ByteString)
        super().register_external_session(session)
