"""Secure channels that are checked before anything is done on them; the library alone would check much less.

It looks at the certificate that a client names in CreateSession and not at the one it signs with, takes any identity over
policy None, answers registrations of strangers, and leaves a connection open on which nothing fits.
"""

from __future__ import annotations

import struct
from typing import Any, cast

from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import Buffer, ServiceError
from asyncua.crypto import security_policies, uacrypto
from asyncua.crypto.permission_rules import USER_TYPES
from asyncua.crypto.security_policies import SecurityPolicy, SecurityPolicyFactory, SecurityPolicyNone
from asyncua.crypto.uacrypto import der_from_x509, x509_from_der
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.server import Server
from asyncua.ua.object_ids import ObjectIds
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.ua_binary import struct_from_binary, uatcp_to_binary
from asyncua.ua.uaerrors import UaError, UaStatusCodeError
from cryptography.exceptions import InvalidSignature

from bridge.outputs.opcua.access import Access
from bridge.outputs.opcua.pki import application_uris
from bridge.outputs.opcua.session import PlcInternalServer, PlcSession
from bridge.outputs.opcua.transport import StrictProcessor, StrictProtocol
from bridge.outputs.opcua.values import standard_id

POLICIES: dict[str, type[SecurityPolicy]] = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
_SIGNED, _BOTH, _NEITHER = (
    ua.MessageSecurityMode.Sign,
    ua.MessageSecurityMode.SignAndEncrypt,
    ua.MessageSecurityMode.None_,
)
_ERROR = cast("ua.MessageType", ua.MessageType.Error)
_LEVELS = {"Basic256Sha256": 50, "Aes128Sha256RsaOaep": 55, "Aes256Sha256RsaPss": 60}
_TRANSPORT = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"
_CREATE = standard_id(ObjectIds.CreateSessionRequest_Encoding_DefaultBinary)
_ACTIVATE = standard_id(ObjectIds.ActivateSessionRequest_Encoding_DefaultBinary)
_SERVICES = {standard_id(number) for number in USER_TYPES}
_WITHOUT_SESSION = {
    _CREATE,
    _ACTIVATE,
    standard_id(ObjectIds.GetEndpointsRequest_Encoding_DefaultBinary),
    standard_id(ObjectIds.FindServersRequest_Encoding_DefaultBinary),
    standard_id(ObjectIds.CloseSecureChannelRequest_Encoding_DefaultBinary),
}
_NODE_SERVICES = {
    standard_id(number)
    for number in (
        ObjectIds.AddNodesRequest_Encoding_DefaultBinary,
        ObjectIds.DeleteNodesRequest_Encoding_DefaultBinary,
        ObjectIds.AddReferencesRequest_Encoding_DefaultBinary,
        ObjectIds.DeleteReferencesRequest_Encoding_DefaultBinary,
    )
}
# What the library raises over a message that doesn't fit.
_UNFIT = (
    InvalidSignature,
    uacrypto.InvalidSignature,  # type: ignore[attr-defined]
    LookupError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    UaError,
    struct.error,
)


class GuardedFactory(SecurityPolicyFactory):
    """One policy and mode, for clients whose certificate is trusted, with the server's certificate of the moment."""

    def __init__(self, name: str, mode: ua.MessageSecurityMode, access: Access, address: str) -> None:
        super().__init__(POLICIES[name], mode)
        self._access = access
        self._address = address

    def create(self, peer_certificate: bytes | None) -> SecurityPolicy:
        """Make the policy of one channel; raises ServiceError for a client that is not trusted."""
        peer, own = self._access.admit(peer_certificate, self._address), self._access.own
        if own is None:
            raise ServiceError(StatusCodes.BadSecurityPolicyRejected)
        made: SecurityPolicy = self.cls(peer, own.certificate, own.key, self.mode)
        return made


class GuardedProcessor(StrictProcessor):
    """One connection's messages, of which each is checked before the library acts on it."""

    def __init__(self, access: Access, server: PlcInternalServer, transport: Any, limits: TransportLimits) -> None:
        super().__init__(server, transport, limits)
        self._access = access
        self.address = str(self.name[0]) if self.name else ""
        self.set_policies(
            [GuardedFactory(name, mode, access, self.address) for name in access.policies for mode in (_SIGNED, _BOTH)]
        )

    @property
    def peer(self) -> bytes | None:
        """The certificate of the client at the other end, if the channel is secured."""
        return self._connection.security_policy.peer_certificate or None

    async def process(self, header: Any, body: Any) -> bool:
        """Take one message; one that doesn't fit is answered by its reason, and ends the connection."""
        try:
            return bool(await super().process(header, body))
        except (ServiceError, UaStatusCodeError) as exc:
            code = int(exc.code)
        except _UNFIT:
            code = int(StatusCodes.BadSecurityChecksFailed)
        reason = ua.ErrorMessage(ua.StatusCode(ua.UInt32(code)), ua.String(""))
        self._transport.write(uatcp_to_binary(_ERROR, reason))
        return False

    def open_secure_channel(self, algohdr: Any, seqhdr: Any, body: Any) -> None:
        """Open the channel or renew it, if the client is trusted still."""
        if self._connection.is_open() and self.peer:
            self._access.admit(self.peer, self.address)
        super().open_secure_channel(algohdr, seqhdr, body)

    async def _process_message(self, typeid: ua.NodeId, requesthdr: Any, seqhdr: Any, body: Buffer) -> bool:
        if typeid in _NODE_SERVICES:
            raise ServiceError(StatusCodes.BadUserAccessDenied)
        if typeid not in _SERVICES:
            raise ServiceError(StatusCodes.BadServiceUnsupported)
        if typeid == _CREATE:
            return await self._create(requesthdr, seqhdr, body)
        if typeid == _ACTIVATE:
            await self._identify(requesthdr, struct_from_binary(ua.ActivateSessionParameters, body.copy()))
        elif typeid not in _WITHOUT_SESSION:
            session = self.session
            if session is None or requesthdr.AuthenticationToken != session.auth_token:
                raise ServiceError(StatusCodes.BadSessionIdInvalid)
        return bool(await super()._process_message(typeid, requesthdr, seqhdr, body))

    async def _create(self, requesthdr: Any, seqhdr: Any, body: Buffer) -> bool:
        """Make a session for a client that is who its channel says. Raises ServiceError."""
        params, policy = struct_from_binary(ua.CreateSessionParameters, body.copy()), self._connection.security_policy
        if isinstance(policy, SecurityPolicyNone):
            if not self._access.anonymous:
                raise ServiceError(StatusCodes.BadSecurityPolicyRejected)
        else:
            self._check_client(params, policy)
        if self.session is not None:
            await self.session.close_session(True)  # one at a time: the library would forget the first, and keep it
            if self._session_watchdog_task is not None:
                self._session_watchdog_task.cancel()
        done = await super()._process_message(_CREATE, requesthdr, seqhdr, body)
        if isinstance(self.session, PlcSession):
            self.session.channel = self._channel
        return bool(done)

    @staticmethod
    def _check_client(params: ua.CreateSessionParameters, policy: SecurityPolicy) -> None:
        named = der_from_x509(x509_from_der(params.ClientCertificate))
        if not named or named != policy.peer_certificate:
            raise ServiceError(StatusCodes.BadCertificateInvalid)
        if params.ClientDescription.ApplicationUri not in application_uris(x509_from_der(named)):
            raise ServiceError(StatusCodes.BadCertificateUriInvalid)
        if len(params.ClientNonce or b"") < policy.secure_channel_nonce_length:
            raise ServiceError(StatusCodes.BadNonceInvalid)

    @property
    def _channel(self) -> tuple[str, ua.MessageSecurityMode, bytes]:
        policy = self._connection.security_policy
        return policy.URI, policy.Mode, policy.peer_certificate or b""

    async def _identify(self, requesthdr: Any, params: ua.ActivateSessionParameters) -> None:
        """Check who activates a session, which may be one of a connection that was lost. Raises ServiceError."""
        session = self.session or self.iserver.lookup_external_session(requesthdr.AuthenticationToken)
        if not isinstance(session, PlcSession) or session.auth_token != requesthdr.AuthenticationToken:
            raise ServiceError(StatusCodes.BadSessionIdInvalid)
        if session.channel != self._channel or session.nonce is None:
            raise ServiceError(StatusCodes.BadSecurityChecksFailed)
        policy = self._connection.security_policy
        try:
            signed = (policy.host_certificate or b"") + session.nonce
            policy.asymmetric_cryptography.verify(signed, params.ClientSignature.Signature or b"")
        except (InvalidSignature, ValueError, TypeError) as exc:
            raise ServiceError(StatusCodes.BadApplicationSignatureInvalid) from exc
        session.proven = await self._access.identify(
            params.UserIdentityToken, policy=policy, nonce=session.nonce, address=self.address
        )


class GuardedProtocol(StrictProtocol):
    """One connection, whose messages go to a GuardedProcessor."""

    def __init__(self, access: Access, **named: Any) -> None:
        super().__init__(**named)
        self._access = access

    def connection_made(self, transport: Any) -> None:
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if self.processor is not None and isinstance(self.iserver, PlcInternalServer):
            self.processor = GuardedProcessor(self._access, self.iserver, transport, self.limits)


class GuardedBinaryServer(BinaryServer):
    """The port, whose connections are guarded."""

    def __init__(
        self, access: Access, server: PlcInternalServer, host: str, port: int, limits: TransportLimits
    ) -> None:
        super().__init__(server, host, port, limits)
        self._access = access

    def _make_protocol(self) -> OPCUAProtocol:
        return GuardedProtocol(
            self._access,
            iserver=self.iserver,
            policies=[],
            clients=self.clients,
            closing_tasks=self.closing_tasks,
            limits=self.limits,
        )


class GuardedServer(Server):
    """The library's server with these channels and sessions in the place of its own."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._guarded = PlcInternalServer()
        super().__init__(iserver=self._guarded)

    async def start(self) -> None:
        """Open the port. Raises OSError."""
        if self.socket_address is None:
            raise ValueError("the address has to be set before")
        self.show_endpoints()
        await self.iserver.start()
        self.bserver = GuardedBinaryServer(self._access, self._guarded, *self.socket_address, self.limits)
        try:
            await self.bserver.start()
        except OSError:
            self.bserver = None
            await self.iserver.stop()
            raise

    def show_endpoints(self) -> None:
        """Tell clients of each policy and mode, and of the certificate of the moment."""
        places = [(POLICIES[name], mode, _LEVELS[name]) for name in self._access.policies for mode in (_SIGNED, _BOTH)]
        if self._access.anonymous:
            places.append((SecurityPolicyNone, _NEITHER, 0))
        self.iserver.endpoints = [
            self._endpoint(policy, mode, level + 20 * (mode is _BOTH)) for policy, mode, level in places
        ]

    def _endpoint(self, policy: Any, mode: ua.MessageSecurityMode, level: int) -> ua.EndpointDescription:
        tokens = []
        if self._access.anonymous:
            tokens.append(ua.UserTokenPolicy(PolicyId="anonymous", TokenType=ua.UserTokenType.Anonymous))
        if mode is not _NEITHER:
            tokens.append(
                ua.UserTokenPolicy(
                    PolicyId=f"user-{policy.__name__.removeprefix('SecurityPolicy')}",
                    TokenType=ua.UserTokenType.UserName,
                    SecurityPolicyUri=policy.URI,  # the password is encrypted once more, in a signed channel alone
                )
            )
        return ua.EndpointDescription(
            EndpointUrl=self.endpoint.geturl(),
            Server=ua.ApplicationDescription(
                ApplicationUri=self._application_uri,
                ProductUri=self.product_uri,
                ApplicationName=ua.LocalizedText(self.name),
                ApplicationType=self.application_type,
                DiscoveryUrls=[self.endpoint.geturl()],
            ),
            ServerCertificate=der_from_x509(self._access.own.certificate) if self._access.own else b"",
            SecurityMode=mode,
            SecurityPolicyUri=policy.URI,
            UserIdentityTokens=tokens,
            TransportProfileUri=_TRANSPORT,
            SecurityLevel=level,
        )
