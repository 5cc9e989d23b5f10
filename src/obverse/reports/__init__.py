"""What people look at: terminal summaries and figures, made from numbers only, never from models."""
