"""A gateway's gRPC door as the stock client grpcio sees it. Usage: stock.py ADDRESS CASE"""

import queue
import sys
import threading

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status

from stub import Stub

PATIENCE = 30


def connect():
    options = [("grpc.max_receive_message_length", -1)]
    if sys.argv[1].startswith("unix:"):
        # By itself it takes the path for the authority, percent-encoded, which is none (RFC 3986, 3.2.2).
        options.append(("grpc.default_authority", "localhost"))
    return grpc.insecure_channel(sys.argv[1], options=options)


CHANNEL = connect()
STUB = Stub(CHANNEL)


def request(subject, payload=b"", **options):
    message = STUB.RequestRequest(subject=subject, payload=payload)
    return STUB.Request(message, **{"timeout": PATIENCE, **options})


def failure(call):
    """The error of a call that must fail, with its ErrorInfo."""
    try:
        answer = call()
    except grpc.RpcError as error:
        info = error_details_pb2.ErrorInfo()
        try:
            status = rpc_status.from_call(error)
        except ValueError:
            # When the client's own deadline rings as the status comes, the library leaves its text as it is on the wire.
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED and "%20" in error.details(), error
            status = None
        if status is not None:
            assert status.details[0].Unpack(info), status
        return error, info, status
    raise AssertionError(f"it was answered: {answer}")


def expect(call, code, reason, outcome=None):
    error, info, status = failure(call)
    assert (error.code(), info.reason) == (code, reason), (error, info)
    if reason:
        assert info.domain == "ipc-gateway" and len(info.metadata["trace_id"]) == 32, info
    if outcome:
        assert info.metadata["outcome"] == outcome, info
    return error, info, status


class Session:
    """A session whose questions are said one by one."""

    def __init__(self, **options):
        self.said = queue.Queue()
        self.call = STUB.Session(iter(self.said.get, None), **{"timeout": PATIENCE, **options})

    def say(self, number, **what):
        self.said.put(STUB.SessionRequest(id=number, **what))

    def hear(self):
        return next(self.call)

    def end(self):
        self.said.put(None)


def unary():
    answer = STUB.Request(
        STUB.RequestRequest(subject="demo.echo", payload=b"\x00\xffhi", headers=[{"name": "X-A", "value": "1"}])
    )
    assert answer.payload == b"\x00\xffhi", answer
    assert [header.name for header in answer.headers] == ["Ipc-Gateway-Demo"], answer
    # Empty, and large (interop: empty_unary, large_unary).
    assert request("demo.echo").payload == b""
    large = bytes(range(256)) * (4 << 12)
    assert len(large) == 4 << 20 and request("demo.echo", large).payload == large
    publish = STUB.PublishRequest(subject="a.b", payload=b"x")
    assert STUB.Publish(publish, timeout=PATIENCE) == STUB.PublishResponse()


def metadata():
    """What a responder says comes back (interop: custom_metadata)."""
    answer, call = STUB.Request.with_call(
        STUB.RequestRequest(subject="demo.echo"),
        timeout=PATIENCE,
        metadata=[("x-request-id", "7"), ("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")],
    )
    assert dict(call.initial_metadata())["ipc-gateway-demo"] == "true", call.initial_metadata()
    trace = [("traceparent", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")]
    _, info, _ = expect(
        lambda: request("demo.fail", metadata=trace), grpc.StatusCode.UNKNOWN, "FAILED"
    )
    assert info.metadata["trace_id"] == "a" * 32, info


def errors():
    """Statuses and their details (interop: status_code_and_message, unimplemented_method and _service)."""
    code = grpc.StatusCode
    expect(lambda: request("nobody.listens"), code.UNAVAILABLE, "NO_RESPONDERS", "not_sent")
    expect(lambda: request("a..b"), code.INVALID_ARGUMENT, "INVALID", "not_sent")
    expect(lambda: request("$SYS.a"), code.PERMISSION_DENIED, "DENIED", "not_sent")
    _, _, status = expect(lambda: request("demo.fail"), code.UNKNOWN, "FAILED", "done")
    failed = STUB.message("gateway.v1.Failed")()
    assert status.details[1].Unpack(failed), status
    assert failed.code == "demo_failure" and b"always fails" in failed.body, failed
    assert failed.body_bytes == len(failed.body), failed
    for path in ["/gateway.v1.Gateway/Nothing", "/no.such.Service/Request"]:
        call = CHANNEL.unary_unary(path)
        error, _, _ = failure(lambda: call(b"", timeout=PATIENCE))
        assert error.code() == code.UNIMPLEMENTED, error
    # A message that is none.
    error, _, _ = failure(lambda: CHANNEL.unary_unary("/gateway.v1.Gateway/Request")(b"\xff\xff", timeout=PATIENCE))
    assert error.code() == code.INTERNAL, error
    # A message over the limit.
    expect(lambda: request("demo.echo", bytes(5 << 20)), code.RESOURCE_EXHAUSTED, "TOO_LARGE", "not_sent")


def deadlines():
    """The client's deadline is kept (interop: timeout_on_sleeping_server)."""
    error, _, _ = failure(lambda: request("demo.silent", timeout=0.2))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    error, _, _ = failure(lambda: next(STUB.Subscribe(STUB.SubscribeRequest(pattern="quiet.*"), timeout=0.2)))
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    session = Session()
    session.say(1, request={"subject": "demo.silent", "timeout_ms": 100})
    told = session.hear()
    assert (told.id, told.error.kind, told.error.grpc_code) == (1, "timed_out", 4), told
    assert told.error.outcome == 2, told
    session.say(2, request={"subject": "demo.echo", "timeout_ms": 0})
    assert session.hear().error.kind == "invalid"


def cancel():
    """Calls are taken back (interop: cancel_after_begin, cancel_after_first_response)."""
    waiting = STUB.Request.future(STUB.RequestRequest(subject="demo.silent"), timeout=PATIENCE)
    stream = STUB.Subscribe(STUB.SubscribeRequest(pattern="demo.tick"), timeout=PATIENCE)
    assert next(stream).delivery.subject == "demo.tick"
    session = Session()
    session.say(1, request={"subject": "demo.silent"})
    session.say(2, subscribe={"pattern": "quiet.>"})
    assert session.hear().WhichOneof("what") == "accepted"
    talking = STUB.PublishMany.future(iter(queue.Queue().get, None), timeout=PATIENCE)
    print("waiting", flush=True)
    sys.stdin.readline()
    for call in [waiting, stream, session.call, talking]:
        call.cancel()
        assert call.code() == grpc.StatusCode.CANCELLED, call
    # The connection lives, and what was taken back is counted as such.
    assert request("demo.echo", b"on").payload == b"on"
    print("cancelled", flush=True)
    sys.stdin.readline()


def streams():
    stream = STUB.Subscribe(STUB.SubscribeRequest(pattern="news.*"), timeout=PATIENCE)
    # The head comes once the subscription is in force.
    stream.initial_metadata()
    messages = [STUB.PublishManyRequest(subject=f"news.{n % 3}", payload=b"%d" % n) for n in range(1000)]
    assert STUB.PublishMany(iter(messages), timeout=PATIENCE).accepted == 1000
    for n in range(1000):
        delivery = next(stream).delivery
        assert (delivery.subject, delivery.payload) == (f"news.{n % 3}", b"%d" % n), delivery
    stream.cancel()
    # The first that fails ends it, and it is told how many went before.
    bad = [STUB.PublishManyRequest(subject=subject) for subject in ["a", "b", "a b", "c"]]
    _, info, _ = expect(
        lambda: STUB.PublishMany(iter(bad), timeout=PATIENCE), grpc.StatusCode.INVALID_ARGUMENT, "INVALID"
    )
    assert info.metadata["accepted"] == "2", info
    parts = list(STUB.RequestStream(STUB.RequestStreamRequest(subject="demo.echo", payload=b"one"), timeout=PATIENCE))
    assert [part.payload for part in parts] == [b"one"], parts
    stream = STUB.Subscribe(STUB.SubscribeRequest(pattern="a.", queue={"messages_max": 3}), timeout=PATIENCE)
    expect(lambda: next(stream), grpc.StatusCode.INVALID_ARGUMENT, "INVALID")


def session():
    """Everything over one stream (interop: ping_pong, half_duplex)."""
    talk = Session()
    for number in range(1, 5):
        talk.say(number, request={"subject": "demo.echo", "payload": b"%d" % number})
        told = talk.hear()
        assert (told.id, told.reply.payload, told.reply.more) == (number, b"%d" % number, False), told
    talk.say(5, subscribe={"pattern": "talk.>", "queue": {"policy": 1, "messages_max": 100}})
    assert talk.hear().WhichOneof("what") == "accepted"
    talk.say(6, publish={"subject": "talk.a", "payload": b"x", "headers": [{"name": "X-A", "value": "1"}]})
    told = {talk.hear().id: True, talk.hear().id: True}
    assert told == {5: True, 6: True}, told
    # A publish nobody waits for, and its failure.
    talk.say(0, publish={"subject": "talk.b", "payload": b"y"})
    told = talk.hear()
    assert (told.id, told.delivery.subject, told.delivery.payload) == (5, "talk.b", b"y"), told
    talk.say(0, publish={"subject": "talk b"})
    assert (told := talk.hear()).id == 0 and told.error.kind == "invalid", told
    # An id in use is a conflict for the second, and the first goes on.
    talk.say(7, request={"subject": "demo.silent"})
    talk.say(7, request={"subject": "demo.echo"})
    assert (told := talk.hear()).id == 7 and told.error.kind == "conflict", told
    talk.say(7, cancel={})
    assert (told := talk.hear()).id == 7 and told.error.kind == "cancelled", told
    talk.say(8, request={"subject": "demo.fail"})
    told = talk.hear()
    assert told.error.failed.code == "demo_failure" and told.error.failed.body, told
    talk.say(0, request={"subject": "demo.echo"})
    assert talk.hear().error.kind == "malformed"
    talk.say(9)
    assert (told := talk.hear()).id == 9 and told.error.kind == "malformed", told
    talk.say(10, ping={})
    assert (told := talk.hear()).id == 10 and told.WhichOneof("what") == "pong", told
    # What is open when the client has said all goes on, and the session ends with it.
    talk.say(5, unsubscribe={})
    assert talk.hear().WhichOneof("what") == "end"
    talk.say(11, request={"subject": "demo.slow", "payload": b"100"})
    talk.end()
    assert talk.hear().id == 11
    assert list(talk.call) == [] and talk.call.code() == grpc.StatusCode.OK


def many():
    """Many in flight at once, over a session and as calls, none mixed up."""
    talk = Session()
    count = 3000
    threading.Thread(
        target=lambda: [talk.say(n, request={"subject": "demo.echo", "payload": b"%d" % n}) for n in range(1, count)]
    ).start()
    answers = {}
    while len(answers) < count - 1:
        told = talk.hear()
        answers[told.id] = told.reply.payload
    assert all(payload == b"%d" % number for number, payload in answers.items())
    calls = [
        STUB.Request.future(STUB.RequestRequest(subject="demo.echo", payload=b"%d" % n), timeout=PATIENCE)
        for n in range(500)
    ]
    assert [call.result().payload for call in calls] == [b"%d" % n for n in range(500)]


def gzip():
    call = dict(timeout=PATIENCE, compression=grpc.Compression.Gzip)
    message = STUB.RequestRequest(subject="demo.echo", payload=b"squeeze " * 10000)
    assert STUB.Request(message, **call).payload == message.payload
    # What is small on the way in and large inside.
    bomb = STUB.RequestRequest(subject="demo.echo", payload=bytes(64 << 20))
    error, _, _ = failure(lambda: STUB.Request(bomb, **call))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED, error


def reflection():
    """Both versions of the reflection list all services; the messages are those of version 1alpha."""
    expected = {
        "gateway.v1.Gateway",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for version in ["v1", "v1alpha"]:
        call = CHANNEL.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = call(iter([asked]), timeout=PATIENCE)
        listed = {service.name for service in answer.list_services_response.service}
        assert listed >= expected - {f"grpc.reflection.{'v1alpha' if version == 'v1' else 'v1'}.ServerReflection"}, listed


def health():
    """Told at once and with each change; the other side begins to stop when it reads a line."""
    stub = health_pb2_grpc.HealthStub(CHANNEL)
    for service in ["", "gateway.v1.Gateway"]:
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, answer
    error, _, _ = failure(lambda: stub.Check(health_pb2.HealthCheckRequest(service="x"), timeout=PATIENCE))
    assert error.code() == grpc.StatusCode.NOT_FOUND, error
    unknown = stub.Watch(health_pb2.HealthCheckRequest(service="x"), timeout=PATIENCE)
    assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    unknown.cancel()
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    print("watching", flush=True)
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    error, _, _ = failure(lambda: next(watch))
    assert error.code() == grpc.StatusCode.UNAVAILABLE, error


def drain():
    """What is in flight is answered, a session and a subscription are told when to come back."""
    slow = STUB.Request.future(STUB.RequestRequest(subject="demo.slow", payload=b"700"), timeout=PATIENCE)
    stream = STUB.Subscribe(STUB.SubscribeRequest(pattern="quiet.*"), timeout=PATIENCE)
    stream.initial_metadata()
    talk = Session()
    talk.say(1, request={"subject": "demo.slow", "payload": b"700"})
    talk.say(2, subscribe={"pattern": "quiet.*"})
    assert talk.hear().WhichOneof("what") == "accepted"
    print("waiting", flush=True)
    told = talk.hear()
    assert told.id == 0 and told.goaway.retry_after_ms >= 500, told
    assert (told := talk.hear()).id == 2 and told.error.kind == "draining", told
    # New questions are refused.
    talk.say(3, request={"subject": "demo.echo"})
    assert (told := talk.hear()).id == 3 and told.error.kind == "draining", told
    assert (told := talk.hear()).id == 1 and told.reply.payload, told
    assert list(talk.call) == [] and talk.call.code() == grpc.StatusCode.OK
    assert slow.result().payload
    _, _, status = expect(lambda: next(stream), grpc.StatusCode.UNAVAILABLE, "DRAINING")
    retry = error_details_pb2.RetryInfo()
    assert status.details[1].Unpack(retry) and retry.retry_delay.ToMilliseconds() >= 500, status


def idle():
    """A connection that is left alone gets a GOAWAY, which a client hardly notices."""
    assert request("demo.echo", b"1").payload == b"1"
    states = queue.Queue()
    CHANNEL.subscribe(states.put)
    while states.get(timeout=PATIENCE) != grpc.ChannelConnectivity.IDLE:
        pass
    CHANNEL.unsubscribe(states.put)
    assert request("demo.echo", b"2").payload == b"2"


globals()[sys.argv[2]]()
CHANNEL.close()
print("all is well", flush=True)
