"""What a person looks at: contact sheets, curves, reports. Plain arrays and facts in, pictures out."""
