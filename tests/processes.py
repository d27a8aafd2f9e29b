"""What tests start flows with."""

from ops.flow_process import ROOT, FlowProcess

__all__ = ["ROOT", "FlowProcess"]
