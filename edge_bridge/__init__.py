"""The bridge: readings (LAN MQTT) and camera events (Kafka) come in, sealed batches and alerts go to AWS IoT Core."""
