"""Everything this package raises on purpose.

The docstring of each class is its default message. Where an error comes from a file, ``source``, ``line`` and
``column`` say where; ``cure`` says what to change.
"""

from __future__ import annotations


class QoSFlowError(Exception):
    """Something is wrong with the input or the environment."""

    def __init__(
        self,
        message: str | None = None,
        *,
        source: object | None = None,
        line: int | None = None,
        column: str | None = None,
        stage: str | None = None,
        cure: str | None = None,
    ) -> None:
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.source = None if source is None else str(source)
        self.line = line
        self.column = column
        self.stage = stage
        self.cure = cure
        super().__init__(self.message)

    def __str__(self) -> str:
        where = [
            part
            for part in (
                self.source,
                f"line {self.line}" if self.line is not None else None,
                f"column {self.column!r}" if self.column is not None else None,
                f"stage {self.stage!r}" if self.stage is not None else None,
            )
            if part
        ]
        text = f"{', '.join(where)}: {self.message}" if where else self.message
        if not self.cure:
            return text
        return f"{text} {self.cure}" if text.endswith((".", "!", "?", ":")) else f"{text}. {self.cure}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only attributes would be lost by the default pickling, which multiprocess executors use.
        return (_rebuild, (type(self), self.message, self.__dict__))


def _rebuild(kind: type[QoSFlowError], message: str, state: dict[str, object]) -> QoSFlowError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class BundleError(QoSFlowError):
    """A bundle or one of its files cannot be read."""


class WorkflowError(QoSFlowError):
    """The workflow template is not a valid DAG of stages."""


class TierError(QoSFlowError):
    """A storage tier is unknown or described wrongly."""


class MeasurementError(QoSFlowError):
    """Observations, transfer times or storage rates are missing or impossible."""


class RequestError(QoSFlowError):
    """The request for a recommendation is not valid."""


class ClusterError(QoSFlowError):
    """The Kubernetes cluster cannot run what was recommended."""


class SpaceTooLargeError(QoSFlowError):
    """The configuration space is too large to enumerate."""


class StoreError(QoSFlowError):
    """The QoSFlow database cannot do what was asked."""


class StoreUnavailableError(StoreError):
    """The QoSFlow database cannot be reached."""


class NotFoundError(StoreError):
    """No such workflow, model or recommendation."""
