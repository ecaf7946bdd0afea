"""Images, containers, networks as a user knows them: one short function a verb."""
