"""How clients reach the server.

stdio        JSON-RPC over stdin and stdout, on the event loop itself
lines        the client's pipes, taken over before anything else, and the lines on them; knows no SDK
http         streamable HTTP through uvicorn
connections  how many connections there are, and how long each may take to ask
sessions     how many sessions of the older versions of the protocol a client may have
access       where the HTTP server listens, and which requests it serves; knows no SDK
"""
