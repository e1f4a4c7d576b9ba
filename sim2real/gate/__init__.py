"""The gate that every command passes, and what it guards."""
