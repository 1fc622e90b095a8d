"""The conveyor: devices that are pure functions of time, and a driver that ties them to the clock and the network."""
