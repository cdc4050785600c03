"""TensorBoard's file format: records of protocol buffers, appended one by one.

tensorboardX gives the messages and the checksum, and not the writer: its writer hands records to a
thread, whose death on a full disk blocks whoever writes next, and loses on a kill what is queued.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cifar_tune.plan.space import Dimension, Space, Value

WORD, NUMBER, TRUTH = "DATA_TYPE_STRING", "DATA_TYPE_FLOAT64", "DATA_TYPE_BOOL"
# The marks of a session, as TensorBoard calls a run on its HPARAMS page.
SUCCESS, FAILURE, RUNNING = "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"


class EventFiles:
    """Makes TensorBoard's messages and appends them to files, which are whole after each call."""

    def __init__(self) -> None:
        from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]

        with _without_torch():
            from tensorboardX.proto import event_pb2, plugin_hparams_pb2, summary_pb2
            from tensorboardX.record_writer import masked_crc32c
        self._events, self._summaries = event_pb2, summary_pb2
        self._plugin, self._message_of = plugin_hparams_pb2, ParseDict
        self._checksum = masked_crc32c

    def append(self, path: Path, *events: Any) -> None:
        """Append events; a new file gets its folder and its first record.

        Raises:
            OSError: the storage is full or gone.
        """
        new = not path.exists()
        if new:
            path.parent.mkdir(parents=True, exist_ok=True)
        content = self.whole(*events) if new else self._records(events)
        with path.open("ab") as file:
            file.write(content)

    def whole(self, *events: Any) -> bytes:
        """The content of a whole file with these events."""
        return self._records((self._events.Event(file_version="brain.Event:2"), *events))

    def _records(self, events: Iterable[Any]) -> bytes:
        return b"".join(self._record(event.SerializeToString()) for event in events)

    def _record(self, content: bytes) -> bytes:
        """TFRecord: length (8 bytes), its checksum (4), content, its checksum (4)."""
        length = struct.pack("<Q", len(content))
        checksums = (struct.pack("<I", self._checksum(part)) for part in (length, content))
        return length + next(checksums) + content + next(checksums)

    def scalars(self, metrics: Mapping[str, float], step: int, seconds: float) -> Any:
        """One value each at a step."""
        message = self._summaries.Summary
        values = [message.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        return self._events.Event(wall_time=seconds, step=step, summary=message(value=values))

    def restart(self, step: int, seconds: float) -> Any:
        """What stands at this step and later counts no more: it comes once more."""
        started = self._events.SessionLog(status=self._events.SessionLog.START)
        return self._events.Event(wall_time=seconds, step=step, session_log=started)

    def experiment(self, fields: Space, statuses: Sequence[str], metrics: Sequence[str]) -> Any:
        """The columns of the HPARAMS page: the fields and the status, then metrics in this order.

        Without it TensorBoard takes all tags, and shows the first five by their names.
        """
        columns = [_column(field) for field in fields]
        columns.append({"name": "status", "type": WORD, "domain_discrete": list(statuses)})
        shown = [{"name": {"tag": metric}} for metric in metrics]
        return self._of_plugin("experiment", 0.0, hparam_infos=columns, metric_infos=shown)

    def session_start(self, values: Mapping[str, bool | float | str], began: float) -> Any:
        """The hyperparameters of a run: its row on the HPARAMS page."""
        values = dict(values)
        return self._of_plugin("session_start_info", began, hparams=values, start_time_secs=began)

    def session_end(self, status: str, ended: float) -> Any:
        """How a run came out: one of `SUCCESS`, `FAILURE`, `RUNNING`."""
        return self._of_plugin("session_end_info", ended, status=status, end_time_secs=ended)

    def _of_plugin(self, kind: str, seconds: float, **content: Any) -> Any:
        data = self._message_of({kind: content}, self._plugin.HParamsPluginData())
        plugin = {"plugin_name": "hparams", "content": data.SerializeToString()}
        summary = self._summaries.Summary
        value = summary.Value(tag=f"_hparams_/{kind}", metadata={"plugin_data": plugin})
        return self._events.Event(wall_time=seconds, summary=summary(value=[value]))


def _column(field: Dimension) -> dict[str, Any]:
    column = {"name": field.field, "type": column_type(field)}
    if field.values:
        return {**column, "domain_discrete": [in_column(field, value) for value in field.values]}
    return {**column, "domain_interval": {"min_value": field.low, "max_value": field.high}}


def column_type(field: Dimension) -> str:
    """The plugin's type of a searched field; what mixes several is words to it."""
    kinds = {type(value) for value in field.values}
    if kinds <= {int, float}:
        return NUMBER
    return TRUTH if kinds == {bool} else WORD


def in_column(field: Dimension, value: Value) -> bool | float | str:
    """A value as its column has it."""
    if column_type(field) == WORD or value is None:
        return "null" if value is None else str(value)
    return value


@contextmanager
def _without_torch() -> Iterator[None]:
    """tensorboardX imports torch where it is installed: 3.4 s of the driver's time for nothing."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it raises ImportError
    try:
        yield
    finally:
        del sys.modules["torch"]
