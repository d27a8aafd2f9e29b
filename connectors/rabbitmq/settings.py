"""How to reach a broker."""

import ssl
from dataclasses import dataclass, field

import pika

_HEARTBEAT_S = 60


@dataclass(frozen=True, slots=True)
class RabbitMQSettings:
    """How to reach a broker."""

    host: str = "127.0.0.1"
    port: int = 5672
    username: str = "guest"
    password: str = field(default="guest", repr=False)
    virtual_host: str = "/"
    tls: bool = False
    ca_file: str = ""
    """Certificates to trust with `tls`; empty for those of the system."""

    def parameters(self) -> pika.ConnectionParameters:
        """Pika's form of these settings.

        :raises OSError: `ca_file` cannot be read
        """
        options = None
        if self.tls:
            context = ssl.create_default_context(cafile=self.ca_file or None)
            options = pika.SSLOptions(context, self.host)
        return pika.ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.virtual_host,
            credentials=pika.PlainCredentials(self.username, self.password),
            ssl_options=options,
            heartbeat=_HEARTBEAT_S,
            socket_timeout=10,
            stack_timeout=15,
        )
