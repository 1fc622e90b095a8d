"""Modbus: the server over TCP, TLS and serial lines, and the client that writes into a PLC."""
