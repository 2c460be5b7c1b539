"""The site: all submissions as one static folder, an overview that is drawn by a script and one page a submission."""
