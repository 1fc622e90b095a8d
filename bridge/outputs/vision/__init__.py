"""The companion model OPC 40100-1, OPC UA for Machine Vision."""
