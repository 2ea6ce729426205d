"""perfetto's own Python API on top of any `Transport`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO

from perfetto.common.exceptions import PerfettoException
from perfetto.trace_processor import TraceProcessor
from perfetto.trace_processor.backend import TraceProcessorBackend

from profinfer.errors import TraceProcessorError
from profinfer.trace_processor import rpc


class RpcBackend(TraceProcessorBackend):  # type: ignore[misc]
    """What perfetto's `TraceProcessor` asks of a backend, spoken over one transport.

    `timeout` is the time limit of every call in seconds (None: none). Calls raise
    `TraceProcessorError` when the Trace Processor dies or does not know the request.
    """

    def __init__(self, protos: Any, transport: rpc.Transport) -> None:
        super().__init__(protos)
        self.transport = transport
        self.timeout: float | None = None

    def _call(self, method: str, fill: Callable[[Any], None] | None = None) -> Any:
        replies = self._exchange(method, fill)
        return self._merge(replies)

    def _exchange(self, method: str, fill: Callable[[Any], None] | None = None) -> list[bytes]:
        stream = self.protos.TraceProcessorRpcStream()
        request = stream.msg.add()
        request.request = getattr(self.protos.TraceProcessorRpc, method)
        if fill is not None:
            fill(request)
        replies = self.transport.exchange(
            stream.SerializeToString(),
            until_last_batch=method == "TPM_QUERY_STREAMING",
            timeout=self.timeout,
        )
        if not replies:
            raise TraceProcessorError(f"{self.transport.kind}: {method} got no reply")
        return replies

    def _merge(self, replies: list[bytes]) -> Any:
        merged = self.protos.TraceProcessorRpc()
        for reply in replies:
            merged.MergeFromString(reply)
        self._check(merged)
        return merged

    def _check(self, reply: Any) -> None:
        if reply.HasField("fatal_error"):
            raise TraceProcessorError(f"{self.transport.kind}: {reply.fatal_error}")
        if reply.HasField("invalid_request"):
            names = self.protos.TraceProcessorRpc.TraceProcessorMethod
            raise TraceProcessorError(
                f"{self.transport.kind} does not know {names.Name(reply.invalid_request)}",
                "it is older or newer than this request: use another Trace Processor",
            )

    def query_messages(self, sql: str) -> list[bytes]:
        """Run `sql` and return its serialised `TraceProcessorRpc` replies, for `result.parse`."""
        replies = self._exchange(
            "TPM_QUERY_STREAMING", lambda request: setattr(request.query_args, "sql_query", sql)
        )
        if len(replies) == 1:
            self._check(self.protos.TraceProcessorRpc.FromString(replies[0]))
        return replies

    def execute_query(self, query: str) -> Any:
        """Run a query; return a `QueryResult` message."""
        return self._merge(self.query_messages(query)).query_result

    def parse(self, chunk: bytes | memoryview) -> Any:
        """Append bytes of a trace; return an `AppendTraceDataResult`."""
        replies = self.transport.exchange(
            rpc.append_header(len(chunk)), chunk, until_last_batch=False, timeout=self.timeout
        )
        return self._merge(replies).append_result

    def notify_eof(self) -> Any:
        """Say that the trace is complete. Raises `PerfettoException` when that fails."""
        result = self._call("TPM_FINALIZE_TRACE_DATA").finalize_data_result
        if result.error:
            raise PerfettoException(result.error)
        return result

    def register_sql_package(self, name: str, modules: dict[str, str]) -> None:
        """Make `modules` (module name: SQL) known. Raises `PerfettoException` on a clash."""

        def fill(request: Any) -> None:
            arguments = request.register_sql_package_args
            arguments.package_name = name
            arguments.allow_override = True
            for module, sql in modules.items():
                arguments.modules.add(name=module, sql=sql)

        result = self._call("TPM_REGISTER_SQL_PACKAGE", fill).register_sql_package_result
        if result.error:
            raise PerfettoException(result.error)

    def status(self) -> Any:
        """Return a `StatusResult`: versions and the name of the loaded trace."""
        return self._call("TPM_GET_STATUS").status

    def compute_metric(self, metrics: list[str]) -> Any:
        """Compute v1 metrics; return a `ComputeMetricResult`."""
        return self._call(
            "TPM_COMPUTE_METRIC",
            lambda request: request.compute_metric_args.metric_names.extend(metrics),
        ).metric_result

    def trace_summary(
        self,
        specs: list[str | bytes],
        metric_ids: list[str] | None = None,
        metadata_query_id: str | None = None,
    ) -> Any:
        """Compute a trace summary; return a `TraceSummaryResult`."""

        def fill(request: Any) -> None:
            arguments = request.trace_summary_args
            if metric_ids is None:
                arguments.computation_spec.run_all_metrics = True
            else:
                arguments.computation_spec.metric_ids.extend(metric_ids)
            for spec in specs or []:
                if isinstance(spec, str):
                    arguments.textproto_specs.append(spec)
                else:
                    arguments.proto_specs.add().ParseFromString(spec)
            if metadata_query_id is not None:
                arguments.computation_spec.metadata_query_id = metadata_query_id
            arguments.output_format = self.protos.TraceSummaryArgs.Format.BINARY_PROTOBUF

        return self._call("TPM_SUMMARIZE_TRACE", fill).trace_summary_result

    def enable_metatrace(self) -> None:
        """Start tracing Trace Processor itself."""
        self._call(
            "TPM_ENABLE_METATRACE", lambda request: request.enable_metatrace_args.SetInParent()
        )

    def disable_and_read_metatrace(self) -> Any:
        """Stop that; return a `DisableAndReadMetatraceResult`."""
        return self._call("TPM_DISABLE_AND_READ_METATRACE").metatrace

    def export(self, output_file: BinaryIO, export_format: str) -> None:
        """Not possible over this protocol: raises `NotImplementedError`."""
        raise NotImplementedError("export: run trace_processor_shell itself on the trace")

    def close(self) -> None:
        """End the Trace Processor."""
        self.transport.close()


class TransportTraceProcessor(TraceProcessor):  # type: ignore[misc]
    """perfetto's `TraceProcessor` over a transport of ours.

    Everything in perfetto's documentation of that class holds, but for `export`.
    """

    def __init__(self, transport: rpc.Transport) -> None:
        self._transport = transport
        super().__init__()

    def _create_backend(self, _remote: str | None, _addr: str | None) -> RpcBackend:
        self.rpc = RpcBackend(self.protos, self._transport)
        return self.rpc
