"""What people look at: labelled panels, contact sheets, and the report of a comparison as one HTML file."""
