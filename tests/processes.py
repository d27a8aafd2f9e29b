"""The launcher of flows, for tests."""

from ops.flow_process import ROOT, FlowProcess

__all__ = ["ROOT", "FlowProcess"]
