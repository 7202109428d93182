"""Execute: carries a plan out as one transaction that can be undone, against real hypervisors and overlays."""
