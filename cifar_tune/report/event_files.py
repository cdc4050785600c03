"""TensorBoard's file format: records of protocol buffers, appended one by one.

tensorboardX gives the messages and the checksum, and not the writer: its writer hands records to a
thread, whose death on a full disk blocks whoever writes next, and loses on a kill what is queued.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cifar_tune.plan.space import Dimension, Space, Value

PLUGIN = "hparams"
WORD, NUMBER, TRUTH = "DATA_TYPE_STRING", "DATA_TYPE_FLOAT64", "DATA_TYPE_BOOL"
# The marks of a session, as TensorBoard calls a run on its HPARAMS page.
SUCCESS, FAILURE, RUNNING = "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"


class EventFiles:
    """Makes TensorBoard's messages and appends them to files, which are whole after each call."""

    def __init__(self) -> None:
        with _without_torch():
            from tensorboardX.proto import api_pb2, event_pb2, plugin_hparams_pb2, summary_pb2
            from tensorboardX.record_writer import masked_crc32c
        self._api, self._events = api_pb2, event_pb2
        self._hparams, self._summaries = plugin_hparams_pb2, summary_pb2
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
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            if os.write(descriptor, content) != len(content):
                raise OSError(errno.ENOSPC, "only a part was written", str(path))
        finally:
            os.close(descriptor)

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
        message = self._api.Experiment()
        for field in fields:
            column = message.hparam_infos.add(name=field.field)
            column.type = self._api.DataType.Value(column_type(field))
            if field.values:
                column.domain_discrete.extend(in_column(field, value) for value in field.values)
            else:
                column.domain_interval.min_value = field.low
                column.domain_interval.max_value = field.high
        status = message.hparam_infos.add(name="status")
        status.type = self._api.DataType.Value(WORD)
        status.domain_discrete.extend(statuses)
        for metric in metrics:
            message.metric_infos.add().name.tag = metric
        return self._plugin_event("experiment", message, 0.0)

    def session_start(self, values: Mapping[str, bool | float | str], began: float) -> Any:
        """The hyperparameters of a run: its row on the HPARAMS page."""
        start = self._hparams.SessionStartInfo(start_time_secs=began)
        for name, value in values.items():
            _set_value(start.hparams[name], value)
        return self._plugin_event("session_start_info", start, began)

    def session_end(self, status: str, ended: float) -> Any:
        """How a run came out: one of `SUCCESS`, `FAILURE`, `RUNNING`."""
        number = self._api.Status.Value(status)
        end = self._hparams.SessionEndInfo(status=number, end_time_secs=ended)
        return self._plugin_event("session_end_info", end, ended)

    def _plugin_event(self, kind: str, message: Any, seconds: float) -> Any:
        content = self._hparams.HParamsPluginData(version=0, **{kind: message})
        metadata = self._summaries.SummaryMetadata
        data = metadata.PluginData(plugin_name=PLUGIN, content=content.SerializeToString())
        summary = self._summaries.Summary
        value = summary.Value(tag=f"_hparams_/{kind}", metadata=metadata(plugin_data=data))
        return self._events.Event(wall_time=seconds, summary=summary(value=[value]))


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


def _set_value(cell: Any, value: bool | float | str) -> None:
    if isinstance(value, bool):
        cell.bool_value = value
    elif isinstance(value, str):
        cell.string_value = value
    else:
        cell.number_value = value


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
