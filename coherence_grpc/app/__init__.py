"""The composition root: picks the adapters, opens everything in order and closes it in reverse."""

from coherence_grpc.app.backbone import Backbone, open_backbone
from coherence_grpc.app.serving import serve

__all__ = ["Backbone", "open_backbone", "serve"]
