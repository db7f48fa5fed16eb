"""Where units live: processes under supervisord, or the fake that tests and simulations use."""
