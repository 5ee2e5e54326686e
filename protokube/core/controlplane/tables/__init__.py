"""What each component of the control plane can be told: tables for the engine of core/component."""
