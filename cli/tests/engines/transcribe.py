"""Transcribes a sound with a Whisper model, in Whisper's own form: transcribe.py MODEL SOUND [LANGUAGE]."""

import json
import sys

from faster_whisper import WhisperModel

model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8")
language = sys.argv[3] if len(sys.argv) > 3 else None
segments, info = model.transcribe(sys.argv[2], language=language)
segments = [{"id": s.id, "start": s.start, "end": s.end, "text": s.text} for s in segments]
text = "".join(segment["text"] for segment in segments)
json.dump({"text": text, "language": info.language, "duration": info.duration, "segments": segments}, sys.stdout)
