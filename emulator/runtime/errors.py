"""Why a task or job could not start, in the words in which ECS reports it."""


class StartError(Exception):
    """A container cannot start; the message is what ECS shows as ``stoppedReason``."""


class ResourceInitializationError(StartError):
    """A secret, a role or a log stream that the container needs is not to be had."""

    def __str__(self) -> str:
        return f"ResourceInitializationError: {super().__str__()}"


class CannotPullContainerError(StartError):
    """The image is not to be had."""

    def __str__(self) -> str:
        return f"CannotPullContainerError: {super().__str__()}"


class CannotStartContainerError(StartError):
    """The image's program cannot be executed."""

    def __str__(self) -> str:
        return f"CannotStartContainerError: {super().__str__()}"
