"""A local stand-in for the metadata service of Metaflow. See README.md."""

SERVICE_VERSION = "2.5.1"
"""The version of metaflow-service whose behaviour this package follows; the client derives its features from it."""

STAND_IN_VERSION = f"{SERVICE_VERSION}+local-stand-in"
"""What `GET /version` answers: a version that PEP 440 can parse, and that nobody takes for the real service."""
