"""What a report shows beside its numbers, computed from features, scores and images.

Curves, cells of a confusion matrix, similarity between cuts, maps, thumbnails, facts about the
images. Nothing here decides anything: it only shows.
"""
