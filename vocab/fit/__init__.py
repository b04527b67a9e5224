"""Fitting of the labeler's tables; nothing that labels imports it."""
