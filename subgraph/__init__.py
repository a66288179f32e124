"""The GraphQL subgraph: persisted operations over HTTP, WebSocket and SSE, turned into gRPC calls; and HTTP push."""
