"""The transitions of the machine vision state machines against the nodeset that the OPC Foundation publishes."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from bridge.domain.vision_states import TRANSITIONS
from bridge.outputs.vision.nodeset import NODESET

UA = "{http://opcfoundation.org/UA/2011/03/UANodeSet.xsd}"


def test_each_row_stands_so_in_the_nodeset_of_the_specification() -> None:
    by_id = {node.get("NodeId"): node for node in ET.fromstring(NODESET.read_bytes()) if node.get("NodeId")}
    names = {node_id: (node.get("BrowseName") or "").removeprefix("1:") for node_id, node in by_id.items()}
    published = set()
    for node_id, node in by_id.items():
        refs = [(each.get("ReferenceType"), each.text) for each in node.iter(f"{UA}Reference")]
        if ("HasTypeDefinition", "i=2310") not in refs:
            continue
        ends = {kind: names[target] for kind, target in refs if kind in ("FromState", "ToState", "HasCause")}
        (number,) = (
            int("".join(each.itertext()).split()[-1])
            for each in by_id.values()
            if each.get("ParentNodeId") == node_id and each.get("BrowseName") == "TransitionNumber"
        )
        published.add((number, names[node_id], ends["FromState"], ends["ToState"], ends.get("HasCause", "")))
    ours = {(t.number, t.name, t.before.browse_name, t.after.browse_name, t.cause) for t in TRANSITIONS}
    assert ours - published == set()
    assert len(ours) == len(TRANSITIONS) == 30


def test_the_licence_lies_beside_the_nodeset() -> None:
    assert "OPC Foundation MIT License 1.00" in (NODESET.parent / "LICENSE").read_text()
