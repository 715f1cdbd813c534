"""Results as people read them: tables beside the published figures, and what they say of the claims."""
