"""The four providers' wire formats on loopback, with a bill book that knows the truth.

The gateway is judged against this package, so it shares nothing with it but the unit of money: a mistake made
twice in the same code would agree with itself. It answers from a seed and the prompt, contains no recorded text,
and runs on its own small HTTP server, because some of the faults it plays (a reset before the head, a wrong
content-length) are out of reach of an ASGI application.

Start it with `python -m ownkey.emulator --port 0`.
"""
