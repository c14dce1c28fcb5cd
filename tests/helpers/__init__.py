"""What tests share: models, fakes, made runs, and the scripts that tests start in processes of their own."""
