"""How clients reach the server.

stdio   JSON-RPC over stdin and stdout, on the event loop itself
lines   the client's pipes, taken over before anything else, and the lines on them; knows no SDK
http    streamable HTTP through uvicorn
access  where the HTTP server listens, and which requests it serves; knows no SDK
"""
