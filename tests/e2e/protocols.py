"""One small record in each protocol, and the answer in the words of that protocol's clients."""

import random
import struct
import time

import cramjam
import grpc
import requests
from mixed_load import SIGNALS
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc


def _field(number, payload):
    return bytes([number << 3 | 2, len(payload)]) + payload


def remote_write(ids):
    """A WriteRequest by hand: it has three short fields."""
    labels = b"".join(_field(1, _field(1, name) + _field(2, value)) for name, value in ((b"__name__", b"written"), (b"record", ids[0].encode())))
    millis, varint = int(time.time() * 1000), bytearray()
    while millis > 127:
        varint.append(millis & 127 | 128)
        millis >>= 7
    sample = b"\x09" + struct.pack("<d", 1.0) + b"\x10" + bytes(varint) + bytes([millis])
    body = bytes(cramjam.snappy.compress_raw(_field(1, labels + _field(2, sample))))
    return "/api/v1/write", {"data": body}, {"content-type": "application/x-protobuf", "content-encoding": "snappy"}


HTTP_PROTOCOLS = (*SIGNALS, remote_write)


def send_http(server, make, name):
    path, body, headers = make([f"{name}-{random.randrange(10**9)}"])
    return requests.post(server.url + path, headers=headers, timeout=10, **body)


def grpc_code(server):
    """The code that an export of one log record over gRPC ends with."""
    request = logs_service_pb2.ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add()
    record.time_unix_nano, record.body.string_value = time.time_ns(), "over gRPC"
    with grpc.insecure_channel(server.grpc) as channel:
        try:
            logs_service_pb2_grpc.LogsServiceStub(channel).Export(request, timeout=10)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def check_refused_for_now(server):
    """Each protocol is told to come again, in the way that makes its clients do so, and at once."""
    for make in HTTP_PROTOCOLS:
        started = time.monotonic()
        answer = send_http(server, make, "refused")
        took = time.monotonic() - started
        assert answer.status_code == 503, f"{make.__name__}: {answer.status_code} {answer.text}"
        assert int(answer.headers["retry-after"]) >= 1 and answer.content, make.__name__
        assert took < 1, f"{make.__name__} was refused after {took:.2f} s"
        if make.__name__ == "errors":
            # Sentry's SDK is told what to hold back, so that it goes on sending errors.
            assert "error" not in answer.headers["x-sentry-rate-limits"] and "transaction" in answer.headers["x-sentry-rate-limits"]
    assert grpc_code(server) == grpc.StatusCode.UNAVAILABLE


def check_accepted(server):
    for make in HTTP_PROTOCOLS:
        answer = send_http(server, make, "accepted")
        assert answer.status_code in (200, 204), f"{make.__name__}: {answer.status_code} {answer.text}"
    assert grpc_code(server) == grpc.StatusCode.OK
    return True
