"""The cloud's volumes: tags, selection, claiming, and tracking of attachments."""
