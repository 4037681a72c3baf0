"""Simulated mixed-type wafer maps, with the exact dies that each defect killed."""

from waferlab.data.simulator.simulate import load, simulate
from waferlab.data.simulator.wafer import WaferParams

__all__ = ["WaferParams", "load", "simulate"]
