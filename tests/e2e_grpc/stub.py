"""A stub of gateway.v1.Gateway made from the gateway's own reflection, so that no code is generated."""

from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


class Stub:
    """Each method under its name, and beside it its request: `stub.Publish(stub.PublishRequest(subject=…))`."""

    def __init__(self, channel):
        self.pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        service = self.pool.FindServiceByName("gateway.v1.Gateway")
        for method in service.methods:
            asked, answered = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
            kind = ["unary", "stream"]
            call = getattr(channel, f"{kind[method.client_streaming]}_{kind[method.server_streaming]}")
            path = f"/gateway.v1.Gateway/{method.name}"
            setattr(self, method.name, call(path, asked.SerializeToString, answered.FromString))
            setattr(self, asked.DESCRIPTOR.name, asked)
            setattr(self, answered.DESCRIPTOR.name, answered)

    def message(self, name):
        """The message of that full name."""
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))
