# Linegate in an image: the bridge, and the simulated conveyor and PLC. docker-compose.yml runs all of them.

FROM python:3.11.14-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY bridge bridge
COPY simulators simulators
COPY models models
RUN pip install --constraint constraints.txt hatchling
RUN pip wheel --no-build-isolation --no-deps --wheel-dir /wheels .
# An environment without pip: nothing in the last stage can install or build.
RUN python -m venv --without-pip /opt/linegate
RUN pip --python /opt/linegate/bin/python install --only-binary :all: --constraint constraints.txt "linegate[postgres] @ file://$(ls /wheels/linegate-*.whl)"

FROM python:3.11.14-slim-bookworm
RUN groupadd --gid 10001 linegate \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/linegate --shell /usr/sbin/nologin linegate \
    && install --directory --owner=10001 --group=10001 /var/lib/linegate \
    && install --directory /etc/linegate
COPY --from=build /opt/linegate /opt/linegate
ENV PATH=/opt/linegate/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1
# onnxruntime 1.29 and later would send figures of use to its maker, and keep them in the home folder.
ENV ORT_DISABLE_TELEMETRY=1
# Where things are in a container; the environment wins over linegate.toml.
ENV LINEGATE_MODBUS__HOST=0.0.0.0 LINEGATE_MODBUS__PORT=502
ENV LINEGATE_OPCUA__ENDPOINT=opc.tcp://0.0.0.0:4840/linegate/
ENV LINEGATE_OPCUA__USERS_FILE=/var/lib/linegate/users.toml LINEGATE_OPCUA__PKI_FOLDER=/var/lib/linegate/pki
ENV LINEGATE_HTTP__HOST=0.0.0.0 LINEGATE_HTTP__PORT=9464
ENV LINEGATE_RECORDS__URL=sqlite:////var/lib/linegate/linegate.db LINEGATE_RECORDS__PICTURES=/var/lib/linegate/pictures
# By number, so that a cluster can see that it isn't root. Two things follow, and docker-compose.yml answers both:
# - Port 502 lies below 1024. A capability that a container is given doesn't reach an ordinary user's process (that would
#   take a file capability or an ambient one), so NET_BIND_SERVICE is of no use: net.ipv4.ip_unprivileged_port_start is.
# - Real-time priority (SCHED_FIFO) in the same way: SYS_NICE alone does nothing for an ordinary user in Docker, the
#   limit `rtprio` is what allows it.
USER 10001:10001
WORKDIR /var/lib/linegate
EXPOSE 502 4840 9464
# For the bridge; other services bring their own. http.client and not urllib, which would ask a configured proxy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-IS", "-c", "from http.client import HTTPConnection as H; h = H('127.0.0.1', 9464, timeout=3); h.request('GET', '/healthz'); raise SystemExit(h.getresponse().status != 200)"]
ENTRYPOINT ["linegate"]
CMD ["run", "--config", "/etc/linegate/linegate.toml"]
