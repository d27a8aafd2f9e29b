"""Bytes and clients: MongoDB, RabbitMQ, Qdrant. Nothing here knows of settings or steps."""
