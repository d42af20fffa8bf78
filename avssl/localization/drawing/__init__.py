"""Heat maps, boxes and curves drawn on images and videos."""
