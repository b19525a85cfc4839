"""Commands around the lab: what trains lab-wan, what measures the lab, what writes its recipe files."""
