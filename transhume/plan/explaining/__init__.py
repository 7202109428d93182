"""Why a decision is as it is: what else there was, what stands against it, what would turn it."""

from transhume.plan.explaining.explainer import Explainer

__all__ = ["Explainer"]
