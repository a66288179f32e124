"""The subgraph's composition root: what is opened, in which order, and what is served where."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Final

from litestar import Litestar, MediaType, Response, asgi, get
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ControllerRouterHandler, Receive, Scope, Send

from coherence_grpc.client import connect
from subgraph.backbone import Backbone
from subgraph.config import Config
from subgraph.following import Followers
from subgraph.graphql import GraphQL
from subgraph.graphql_http import GraphQLOverHttp
from subgraph.graphql_ws import GraphQLOverWebSocket
from subgraph.guard import local_only
from subgraph.loading import ScoreBatcher
from subgraph.operation import Services
from subgraph.problems import on_fault, on_http_exception
from subgraph.push import push_handler
from subgraph.revisions import Revisions
from subgraph.switches import Switches

GRAPHQL_PATH: Final = "/graphql"


class Subgraph:
    """The application: `asgi` is what a server serves."""

    def __init__(self, graphql: GraphQL, switches: Switches) -> None:
        self.services = graphql.services
        self.switches = switches
        self.draining = False
        self.asgi = local_only(_litestar([_graphql(graphql), push_handler(graphql.services), *_health(self)]))

    def drain(self) -> None:
        """End the subscriptions, each with the cursor to resume from; requests under way are finished."""
        self.draining = True
        self.services.followers.drain()


@asynccontextmanager
async def open_subgraph(config: Config) -> AsyncIterator[Subgraph]:
    """The application, connected to the backbone; what was opened is closed in reverse."""
    async with AsyncExitStack() as stack:
        backbone = Backbone(await stack.enter_async_context(connect(config.grpc, token="")))
        followers = Followers(config.grpc)
        stack.push_async_callback(followers.close)
        switches = await stack.enter_async_context(Switches(backbone).followed())
        services = Services(backbone, ScoreBatcher(backbone), followers, Revisions())
        yield Subgraph(GraphQL(services, switches, dev=config.dev), switches)


def _graphql(graphql: GraphQL) -> ControllerRouterHandler:
    over_http, over_websocket = GraphQLOverHttp(graphql), GraphQLOverWebSocket(graphql)

    @asgi(GRAPHQL_PATH, copy_scope=False)
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await (over_websocket if scope["type"] == ScopeType.WEBSOCKET else over_http)(scope, receive, send)

    return serve


def _health(subgraph: "Subgraph") -> list[ControllerRouterHandler]:
    # Neither looks at the backbone: a restart or another replica would not help it.
    @get("/healthz", media_type=MediaType.TEXT, sync_to_thread=False, summary="Alive", tags=["health"])
    def alive() -> str:
        return "alive\n"

    @get("/readyz", media_type=MediaType.TEXT, sync_to_thread=False, summary="Ready", tags=["health"])
    def ready() -> Response[str]:
        return Response("draining\n", status_code=503) if subgraph.draining else Response("ready\n")

    return [alive, ready]


def _litestar(handlers: list[ControllerRouterHandler]) -> Litestar:
    openapi = OpenAPIConfig(
        title="coherence: HTTP push",
        version=version("coherence"),
        description=f"Signals by HTTP. Scores and events are answered by GraphQL at {GRAPHQL_PATH}.",
        path="/schema",
        render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        use_handler_docstrings=True,
    )
    return Litestar(
        handlers,
        openapi_config=openapi,
        exception_handlers={HTTPException: on_http_exception, Exception: on_fault},
        logging_config=None,
    )
