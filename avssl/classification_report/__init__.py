"""A classifier's results as a page to look at, and as numbers: headline, confusions, classes, worst clips."""

from avssl.classification_report.report import write_report as write_report
