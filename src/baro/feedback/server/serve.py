"""``baro feedback serve``: the application behind uvicorn, on this machine only unless its operator says otherwise."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvicorn
from sqlalchemy import Connection, exists, select

from baro.errors import BackendError, ConfigError
from baro.feedback import people, schema
from baro.feedback.address import keep_address
from baro.feedback.database import Store
from baro.feedback.server.app import LOCAL, create_app
from baro.feedback.server.connections import PER_ADDRESS, Connections, Guarded
from baro.feedback.server.policies import known_policies
from baro.feedback.server.security import RedactTokens

GRACE_SECONDS = 10  # for requests under way when the server is told to stop
KEEP_ALIVE_SECONDS = 15
MAX_CONNECTIONS = 500
CLOSING = 50  # connections more than that before uvicorn says 503: those that are being closed
FILES = Path("feedback-files")  # beside you, for a store that is no folder


def serve(
    where: str | Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    hosts: Sequence[str] = (),
    behind_https_proxy: bool = False,
    policies: Sequence[str] = (),
    files: Path | None = None,
    pool: int | None = None,
) -> None:
    """Serve a store until SIGTERM or Ctrl-C; requests under way are answered first.

    hosts: the names under which people reach it, besides this machine's own. behind_https_proxy: a proxy on this
    machine speaks HTTPS to them. policies: runs, models' folders, folders of runs and hub ids that managers may draw
    answers from. files: where exports go; the store's folder unless given. pool: connections to PostgreSQL.
    """
    check_address(host, hosts, behind_https_proxy)
    offered = known_policies(policies)
    store = Store.open(where, pool=pool)
    try:
        store.check()
        folder = files or (FILES if store.is_postgres else Path(where))
        app = create_app(store, files=folder, hosts=(*LOCAL, *hosts), https=behind_https_proxy, policies=offered)
        listening = listen(host, port)
        address = public_address(host, listening.getsockname()[1], hosts, behind_https_proxy)
        store.write(lambda connection: keep_address(connection, address))
        print(f"serving {store.where} at {address}", file=sys.stderr)
        link = first_link(store)
        if link is not None:
            print(f"nobody manages this store yet; open this once: {address}/join#{link}", file=sys.stderr, flush=True)
        _set_up_logs()
        uvicorn.Server(_config(app, behind_https_proxy)).run(sockets=[listening])
    finally:
        store.close()


def check_address(host: str, hosts: Sequence[str], behind_https_proxy: bool) -> None:
    """ConfigError for an address that others reach without saying under which name they do."""
    for name in hosts:
        if not name or "*" in name or "/" in name or " " in name:
            raise ConfigError(f"{name!r}: is no name of a host; give it without http:// and without a path")
    if _is_loopback(host) or hosts or behind_https_proxy:
        return
    raise ConfigError(
        f"{host}: others on the network could reach the server there; put an HTTPS proxy in front of it "
        "(--behind-https-proxy), or name the hosts under which they reach it (--hosts)"
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def public_address(host: str, port: int, hosts: Sequence[str], behind_https_proxy: bool) -> str:
    """Where people find it."""
    if behind_https_proxy and hosts:
        return f"https://{hosts[0]}"
    name = hosts[0] if hosts and not _is_loopback(host) else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}"


def first_link(store: Store) -> str | None:
    """An invitation for the store's manager as long as none has used one; each start makes another until then."""

    def work(connection: Connection) -> str | None:
        rater, session = schema.rater, schema.session
        managers = select(rater.c.id).where(rater.c.manages_all, rater.c.active).order_by(rater.c.created_ms)
        joined = exists().where(session.c.rater_id == rater.c.id)
        if connection.execute(managers.where(joined)).first() is not None:
            return None
        found = connection.execute(managers).scalar()
        return people.invite(connection, found or people.add_rater(connection, None, role="manager"))

    return store.write(work)


def listen(host: str, port: int) -> socket.socket:
    """A socket to serve at; BackendError where it cannot be had. Port 0 is any that is free.

    Connections take TCP_NODELAY from it, which asyncio sets only on sockets that it made itself: without it the second
    part of an answer waits for the browser's delayed acknowledgement of the first, 40 ms.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise BackendError(f"{host}:{port}: cannot listen there ({error.strerror}); choose another --port") from error
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _config(app: object, behind_https_proxy: bool) -> uvicorn.Config:
    # to us a proxy is one address, and everybody is behind it
    per_address = MAX_CONNECTIONS if behind_https_proxy else PER_ADDRESS
    known = Connections(most=MAX_CONNECTIONS, per_address=per_address)
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        server_header=False,
        proxy_headers=behind_https_proxy,  # of a proxy on this machine only
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        limit_concurrency=MAX_CONNECTIONS + CLOSING,
        http=partial(Guarded, known=known),  # type: ignore[arg-type]
        ws="none",
    )


def _set_up_logs() -> None:
    """Uvicorn's messages on stderr, without the secrets of invitations, sessions and leases."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(RedactTokens())
    for name in ("uvicorn", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
    for own in logging.getLogger("baro").handlers:
        own.addFilter(RedactTokens())
