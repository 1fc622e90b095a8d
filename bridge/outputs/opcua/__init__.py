"""OPC UA: the server, who may use it, its events, and the client that writes into a PLC."""
