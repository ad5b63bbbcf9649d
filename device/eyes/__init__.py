"""What a camera does with its frames: frames.py or live.py -> an eye (people.py, onnx_eye.py) -> outlet.py -> Kafka.

Modern Python, unlike the publisher beside it; OpenCV, NumPy and onnxruntime are imported only for a real source.
"""
