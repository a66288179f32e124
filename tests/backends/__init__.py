"""Real PostgreSQL, Redis and Neo4j servers on free loopback ports, for development and for the tests."""
